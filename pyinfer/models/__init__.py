"""Model architectures: what a file's hyper-parameters are, and which operations a forward pass is made of.

An architecture is an entry of config.ARCHITECTURES (its hyper-parameters) and one of RECORDERS (its operations, which
give logits; an encoder's end with `Blocks.hidden`).
"""

from collections.abc import Callable, Mapping

from pyinfer.models import bert, gemma3, llama
from pyinfer.models.blocks import Blocks, Value

RECORDERS: Mapping[str, Callable[[Blocks], Value | None]] = {
    "llama": llama.record,
    "qwen2": llama.record,
    "gemma3": gemma3.record,
    "bert": bert.record,
    "nomic-bert": bert.record_nomic,
}
