"""JSON schemas: read, brought to a normal form, and written as a grammar in llguidance's dialect of Lark."""
