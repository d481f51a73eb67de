"""Every error that pyinfer raises on purpose.

Each message says what is wrong, where (file, key, tensor or argument), what was found and what was expected.
"""

from pyinfer.version import pip_install


class PyinferError(Exception):
    """Base of all errors below."""


class GGUFError(PyinferError, ValueError):
    """A model file is damaged, cut short, or not of the GGUF format."""


class ModelError(PyinferError, ValueError):
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
    """A model could not be downloaded, or the bytes that arrived are not those that were asked for."""


class GuideWarning(UserWarning):
    """A guide allows some texts that its description refuses; the message names the places."""


def missing_extra(problem: str, extra: str) -> ParameterError:
    """The error for a package that is not installed: what needs it, and the command that installs it."""
    return ParameterError(f"{problem}: {pip_install(extra)}")


class PassStopped(Exception):
    """A forward pass ended early because its plan was told to stop; not public."""
