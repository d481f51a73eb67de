"""Kinds of requests: generated text, logits, embeddings, scores."""
