"""llama.cpp's arguments on rotary positions, as values in place of the file's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyinfer.arguments import is_number, quoted
from pyinfer.errors import ParameterError
from pyinfer.gguf.overrides import Override

SCALINGS = {0: "none", 1: "linear", 2: "yarn", 3: "longrope"}
# Arguments, each with the values that mean the file's; LangChain's classes give 10000 and 1 whatever the model.
DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "rope_scaling_type": (-1, None),
    "rope_freq_base": (0.0, 10000.0, None),
    "rope_freq_scale": (0.0, 1.0, None),
    "yarn_ext_factor": (-1.0, None),
    "yarn_attn_factor": (1.0, None),
    "yarn_beta_fast": (32.0, None),
    "yarn_beta_slow": (1.0, None),
    "yarn_orig_ctx": (0, None),
}


def rope_overrides(arguments: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Override]:
    """Return the metadata values that arguments of `Llama` ask for.

    - `arguments`: those of DEFAULTS that were given.
    - `metadata`: the file's; YaRN's attention factor multiplies the file's, as in llama.cpp.

    Raises ParameterError for values that are no numbers or out of range.
    """
    given = {name: arguments[name] for name, usual in DEFAULTS.items() if arguments.get(name) not in usual}
    for name, value in given.items():
        if not is_number(value, int | float) or (value <= 0 and name not in ("yarn_ext_factor", "rope_scaling_type")):
            raise ParameterError(f"{name} is {quoted(value)}; expected a number above 0, or {DEFAULTS[name][0]}")
    prefix = f"{metadata.get('general.architecture', '')}.rope"
    values: dict[str, Override | None] = {
        "freq_base": _float(given.get("rope_freq_base")),
        "scaling.factor": None if "rope_freq_scale" not in given else 1 / given["rope_freq_scale"],
        "scaling.original_context_length": given.get("yarn_orig_ctx"),
        "scaling.yarn_beta_fast": _float(given.get("yarn_beta_fast")),
        "scaling.yarn_beta_slow": _float(given.get("yarn_beta_slow")),
    }
    if "rope_scaling_type" in given:
        if given["rope_scaling_type"] not in SCALINGS:
            raise ParameterError(
                f"rope_scaling_type is {quoted(given['rope_scaling_type'])}; expected -1 (the file's), 0 (none), "
                "1 (linear), 2 (yarn) or 3 (longrope)"
            )
        values["scaling.type"] = SCALINGS[given["rope_scaling_type"]]
    if given.get("yarn_ext_factor", -1.0) >= 0:
        values["scaling.yarn_ext_factor"] = float(given["yarn_ext_factor"])
        if given["yarn_ext_factor"] > 0:  # llama.cpp extrapolates by it whatever the type
            values.setdefault("scaling.type", "yarn")
    if "yarn_attn_factor" in given:
        own = metadata.get(f"{prefix}.scaling.attn_factor", 1.0)
        values["scaling.attn_factor"] = float(given["yarn_attn_factor"] * own)
    return {f"{prefix}.{key}": value for key, value in values.items() if value is not None}


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
