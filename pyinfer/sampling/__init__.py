"""Sampling: from a row of logits to a token."""
