"""The kinds of requests: generated text, logits, embeddings and scores."""
