"""Every error that pyinfer raises on purpose.

Each message says what is wrong, where (file, key, tensor or argument), what was found and what was expected.
"""


class PyinferError(Exception):
    """Base of all errors below."""


class GGUFError(PyinferError):
    """A model file is damaged, cut short, or not of the GGUF format."""


class ModelError(PyinferError):
    """A well-formed file describes a model that cannot be built: unknown architecture, missing tensor, wrong shape."""


class TokenizerError(PyinferError):
    """The vocabulary is missing or inconsistent, or a token id is out of range."""


class TemplateError(PyinferError):
    """A chat template is not valid, fails, refuses the messages, or takes too much time or memory."""


class ContextError(PyinferError, ValueError):
    """A prompt or a sequence does not fit into the context."""


class ParameterError(PyinferError, ValueError):
    """An argument of a public call has a wrong type or is out of its range."""


class StateError(PyinferError):
    """A saved session is damaged, cut short, or of another model, or there is nothing to save."""


class BusyError(PyinferError):
    """More requests wait than are allowed to."""


class DownloadError(PyinferError):
    """A model could not be fetched, or what arrived is not what was asked for."""


class PassStopped(Exception):
    """A forward pass was ended by Plan.stop; within pyinfer only."""
