"""Speculative decoding: draft tokens, and how many of them are worth computing."""
