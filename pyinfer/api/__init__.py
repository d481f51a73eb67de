"""The classes that users call: `LLM`, `AsyncLLM` and their streams."""
