"""The published models that are at hand; none is fetched for a benchmark."""

import os
from pathlib import Path

FOLDER = Path(os.environ.get("PYINFER_TEST_MODELS", "~/.cache/pyinfer-test-models")).expanduser()
REAL_MODELS = sorted(FOLDER.glob("*.gguf"))  # parameters of tests, which are skipped where there are none
