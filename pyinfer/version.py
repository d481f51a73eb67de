"""The version: written here only; setup and documentation read it."""

__version__ = "0.1.0"
