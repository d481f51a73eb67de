"""llguidance's messages about guides as errors of pyinfer."""

from __future__ import annotations

import re

from pyinfer.errors import ParameterError
from pyinfer.guides.spec import GuideSpec

MAX_MESSAGE = 300  # characters of llguidance's message
LISTED = re.compile(r"\d+ \| ")  # the number before a line of the grammar that the message quotes
ABOUT_REGEX = re.compile(r"^at \d+\(\d+\): invalid regex .* \(in regex\): (regex parse error: .*? error: )?")


def guide_error(guide: GuideSpec, message: str) -> ParameterError:
    """llguidance's message in one line, without its state, its marks, and what pyinfer wrote around an expression."""
    message = message.partition("<state>")[0].replace("<non-verbose/>", "")
    message = message.replace("NoExtensionBias", "no token can follow")
    lines = [line.strip() for line in message.splitlines() if line.strip(" ^")]
    if guide.kind in ("regex", "choice"):
        message = " ".join(line for line in lines if not LISTED.match(line))
        message = ABOUT_REGEX.sub("", message)
    else:
        message = " ".join(lines)
    return ParameterError(f"{guide}: {message[:MAX_MESSAGE]}")
