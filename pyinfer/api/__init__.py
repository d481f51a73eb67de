"""The top floor of the library: `LLM`, `AsyncLLM` and their streams."""
