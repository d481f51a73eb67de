"""Scheduling: which tokens of which requests are computed in the next forward pass."""
