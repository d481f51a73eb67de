"""Parts that architectures are made of: a dataclass of sizes and constants each, its keys, and its operations."""
