"""Parts of architectures. Each has a dataclass of sizes and constants, a function that reads it, and its operations."""
