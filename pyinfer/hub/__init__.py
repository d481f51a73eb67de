"""Models by name: what a name means, downloads, and the caches that keep them.

    resolve_model("model.gguf")                                    # a path; "~" is your folder
    resolve_model("hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M")     # a quantization on the Hugging Face hub
    resolve_model("smollm2:135m")                                  # a name of the catalogue

Models of the hub need the extra `pyinfer-gguf[hub]`; paths and the default model do not.
"""

from pyinfer.hub.catalogue import DEFAULT_MODEL
from pyinfer.hub.models import pull_model, resolve_model

__all__ = ["DEFAULT_MODEL", "pull_model", "resolve_model"]
