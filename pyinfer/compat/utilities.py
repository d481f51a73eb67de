"""`llama_cpp._utils` and `llama_cpp._logger`: what programs use to keep llama.cpp's library silent."""

from __future__ import annotations

import contextlib
import io
import logging
from types import TracebackType

from pyinfer.compat.startup import llama_log_callback as _callback_type

logger = logging.getLogger("llama-cpp-python")
# By the numbers GGML_LOG_LEVEL_*
GGML_LOG_LEVEL_TO_LOGGING_LEVEL = {
    0: logging.CRITICAL,
    1: logging.INFO,
    2: logging.WARNING,
    3: logging.ERROR,
    4: logging.DEBUG,
    5: logging.DEBUG,
}
llama_log_callback = _callback_type(lambda level, text, user_data: None)


def set_verbose(verbose: bool) -> None:
    """Set the level of llama-cpp-python's logger, to which pyinfer writes nothing."""
    logger.setLevel(logging.DEBUG if verbose else logging.ERROR)


class suppress_stdout_stderr:
    """A context in which print and warnings write nothing. `disable` (True): it has no effect."""

    def __init__(self, disable: bool = True) -> None:
        self._disable = disable
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> suppress_stdout_stderr:
        if not self._disable:
            self._stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            self._stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
