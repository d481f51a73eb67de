"""Grammars and schemas: reads, checks and translates them for llguidance."""
