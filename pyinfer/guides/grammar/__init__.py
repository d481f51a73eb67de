"""Grammars and schemas, read, checked and translated for llguidance."""
