"""llama-cpp-python's prompt caches, for `Llama.set_cache`. They have no effect: `LLM` shares prefixes by itself."""

from __future__ import annotations


class LlamaRAMCache:
    """Has no effect, and `capacity_bytes` has none: LLM's `kv_cache_memory` limits the cache."""

    def __init__(self, capacity_bytes: int = 2 << 30) -> None:
        self.capacity_bytes = capacity_bytes


class LlamaDiskCache(LlamaRAMCache):
    """Has no effect, and writes nothing."""

    def __init__(self, cache_dir: str = ".cache/llama_cache", capacity_bytes: int = 2 << 30) -> None:
        super().__init__(capacity_bytes)
        self.cache_dir = cache_dir


LlamaCache = LlamaRAMCache
