"""How an architecture rotates the heads of its layers, and what of it a file says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pyinfer.errors import ModelError
from pyinfer.models.keys import MAX_WIDTH, Keys
from pyinfer.models.rope import FREQS, LONGROPE, Rope, read_factors, read_freq_base, read_rope

DIMS, DIMS_OF_SLIDING = "rope.dimension_count", "rope.dimension_count_swa"  # of a head that turn
N_SECTIONS = 4  # time, height, width, and one that text does not use


@dataclass(frozen=True)
class Sliding:
    """What is different in layers with a window."""

    key: str | None = "rope.freq_base_swa"  # of their base; None: they have no other base
    default_base: float | None = None  # None: the other layers' base
    scaled: bool = False  # whether their context is stretched as in the other layers
    factors: bool = True  # whether their frequencies are divided, too
    attn_factor: bool = True  # whether rope.scaling.attn_factor is theirs, too


@dataclass(frozen=True)
class Rotary:
    """Rotary positions of all layers, or of those that `layers` chooses by (keys, index, whether it has a window).

    - `partial`: the file says how many dimensions of a head turn; else all must.
    - `factors`: what divides the frequencies where the file has it: "freqs" (Llama 3.1), "long_short" (Phi 3), or
      "either", which is the latter where the file's scaling is longrope.
    - `sections` ("mrope", "imrope"): pairs turn by the position's axes, which text has three equal ones of; those of
      the fourth section do not turn in text.
    - `base`: changes the file's base.
    - `fixed`: whether no key is read: base 10000, the whole head, no scaling.
    """

    neox: bool | Callable[[Keys], bool] = False
    partial: bool = False
    factors: Literal["freqs", "long_short", "either"] | None = None
    sections: Callable[[Keys], str | None] | str | None = None
    sliding: Sliding = Sliding(key=None, scaled=True)
    layers: Callable[[Keys, int, bool], bool] = lambda keys, layer, slides: True
    base: Callable[[Keys, float, int], float] | None = None
    fixed: bool = False

    def read(self, keys: Keys, head_dims: Sequence[int], windows: Sequence[int]) -> list[Rope | None]:
        """Return the rotation of every layer, from its head's size and its window."""
        made: dict[tuple[int, bool], Rope] = {}
        ropes: list[Rope | None] = []
        for layer, (head_dim, window) in enumerate(zip(head_dims, windows, strict=True)):
            kind = head_dim, window > 0
            if not self.layers(keys, layer, window > 0):
                ropes.append(None)
                continue
            if kind not in made:
                made[kind] = self._read(keys, head_dim, slides=window > 0)
            ropes.append(made[kind])
        return ropes

    def _read(self, keys: Keys, head_dim: int, slides: bool) -> Rope:
        sections = self.sections(keys) if callable(self.sections) else self.sections
        neox = bool(sections) or (self.neox(keys) if callable(self.neox) else self.neox)
        if self.fixed:
            return Rope(head_dim, neox)
        dims_key = DIMS_OF_SLIDING if slides and keys.has(DIMS_OF_SLIDING) else DIMS
        rope = read_rope(keys, head_dim, neox, whole_head=not self.partial, dims_key=dims_key)
        if self.base is not None:
            rope = replace(rope, freq_base=self.base(keys, rope.freq_base, head_dim))
        if slides:
            rope = self._of_sliding(keys, rope)
        if not slides or self.sliding.factors:
            rope = self._with_factors(keys, rope)
        return rope if sections is None else replace(rope, still=still_pairs(keys, sections, rope.n_rot // 2))

    def _of_sliding(self, keys: Keys, rope: Rope) -> Rope:
        s, base = self.sliding, rope.freq_base
        if s.key is not None:
            base = read_freq_base(keys, s.key, s.default_base or base)
        rope = replace(rope, freq_base=base) if s.scaled else rope.unscaled(base)
        return rope if s.attn_factor else replace(rope, attn_factor=1.0)

    def _with_factors(self, keys: Keys, rope: Rope) -> Rope:
        if self.factors is None:
            return rope
        long = self.factors == "long_short" or (self.factors == "either" and rope.scaling == "longrope")
        return replace(rope, factor_tensors=read_factors(keys, LONGROPE if long else FREQS, rope.n_rot))


def still_pairs(keys: Keys, kind: str, n_pairs: int) -> frozenset[int]:
    """Return the pairs of the section that text does not use (Wang et al. 2024, arXiv:2409.12191).

    "mrope": section after section, again and again; "imrope": one pair of each in turn.
    """
    key = "rope.dimension_sections"
    sizes = keys.get_array(key)
    if sizes is None or not 3 <= len(sizes) <= N_SECTIONS or not 0 < sum(sizes) <= MAX_WIDTH or min(sizes) < 0:
        found = "missing" if sizes is None else str(list(sizes))
        raise ModelError(f"{keys.file.path}: {keys.prefix}.{key} is {found}, expected up to {N_SECTIONS} sizes")
    n = sum(sizes)
    if kind == "mrope":
        return frozenset(i for i in range(n_pairs) if i % n >= sum(sizes[:3]))
    turns = (lambda i: i < 3 * sizes[0], lambda i: i < 3 * sizes[1], lambda i: i < 3 * sizes[2])
    return frozenset(i for i in range(n_pairs) if not turns[i % n % 3](i % n))
