"""The version and the name of the distribution: written here only; setup and documentation read them."""

__version__ = "0.1.0"
DISTRIBUTION = "pyinfer-gguf"  # what pip installs: on the package index, `pyinfer` is another project


def pip_install(extra: str) -> str:
    """The command that installs an extra. The quotes are for shells to which brackets mean something, as zsh."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
