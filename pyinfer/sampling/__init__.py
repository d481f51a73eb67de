"""Sampling: chooses a token by a row of logits."""
