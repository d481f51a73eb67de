"""llama-cpp-python's caches of prompts, which `Llama.set_cache` takes; `LLM` keeps what prompts share anyway."""

from __future__ import annotations


class LlamaRAMCache:
    """Has no effect. capacity_bytes is not looked at; LLM's kv_cache_memory bounds what is kept."""

    def __init__(self, capacity_bytes: int = 2 << 30) -> None:
        self.capacity_bytes = capacity_bytes


class LlamaDiskCache(LlamaRAMCache):
    """Has no effect, and writes nothing."""

    def __init__(self, cache_dir: str = ".cache/llama_cache", capacity_bytes: int = 2 << 30) -> None:
        super().__init__(capacity_bytes)
        self.cache_dir = cache_dir


LlamaCache = LlamaRAMCache
