"""Guides: what a text must look like, and which tokens may come next for it to do so."""
