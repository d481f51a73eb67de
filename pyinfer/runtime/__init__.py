"""What happens at run time: weights, KV cache, the engine, sampling and generation."""
