"""The engine: forward passes of a model over batches of tokens."""
