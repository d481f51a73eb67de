"""Guides: what a text must look like, and which tokens may therefore come next."""
