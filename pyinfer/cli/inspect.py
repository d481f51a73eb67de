"""`pyinfer inspect`: shows a GGUF file's metadata and tensors."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pyinfer.cli.arguments import model_file
from pyinfer.cli.parser import Parser
from pyinfer.cli.terminal import show
from pyinfer.gguf import GGUFFile
from pyinfer.gguf.reader import describe as describe_type

SHORT = 8  # elements of an array that are shown whole
LONG_TEXT = 100  # characters of a string that are shown in the text form


def add_arguments(p: Parser) -> None:
    p.add_argument("file", help="a GGUF file, any part of a split one, or a model's name")
    p.add_argument("--tensors", action="store_true", help="list the tensors, too")
    p.add_argument("--json", action="store_true", help="as JSON; arrays of more than 8 elements as type and length")


def run(args: argparse.Namespace) -> int:
    with GGUFFile(model_file(args.file)) as file:
        report = describe(file, tensors=args.tensors)
    if args.json:
        show(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    else:
        print_report(report)
    return 0


def describe(file: GGUFFile, tensors: bool) -> dict[str, Any]:
    """Return the report as plain values. Sizes are in bytes, shapes row-major."""
    kinds: dict[str, dict[str, int]] = {}
    for info in file.tensors.values():
        kind = kinds.setdefault(info.type.name, {"tensors": 0, "parameters": 0, "bytes": 0})
        kind["tensors"] += 1
        kind["parameters"] += info.n_elements
        kind["bytes"] += info.n_bytes
    n_parameters = sum(kind["parameters"] for kind in kinds.values())
    n_bytes = sum(kind["bytes"] for kind in kinds.values())
    report: dict[str, Any] = {
        "file": str(file.path),
        "version": file.version,
        "alignment": file.alignment,
        "metadata": {key: plain(value) for key, value in file.metadata.items()},
        "n_tensors": len(file.tensors),
        "n_parameters": n_parameters,
        "tensor_bytes": n_bytes,
        "bits_per_weight": round(8 * n_bytes / n_parameters, 3) if n_parameters else None,
        "types": dict(sorted(kinds.items(), key=lambda item: -item[1]["bytes"])),
    }
    if tensors:
        report["tensors"] = [
            {"name": t.name, "type": t.type.name, "shape": list(t.shape), "bytes": t.n_bytes, "offset": t.offset}
            for t in file.tensors.values()
        ]
    return report


def plain(value: Any) -> Any:
    """Return a metadata value for JSON; of a long array, a text with its type and length."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if len(value) > SHORT:
        return f"<{describe_type(value)}>"
    return [plain(v.item() if hasattr(v, "item") else v) for v in value]


def print_report(report: dict[str, Any]) -> None:
    show(f"{report['file']}: GGUF version {report['version']}, alignment {report['alignment']}\n\nmetadata\n")
    for key, value in report["metadata"].items():
        text = repr(value) if not isinstance(value, str) or not value.startswith("<array") else value
        show(f"  {key} = {text if len(text) <= LONG_TEXT else text[:LONG_TEXT] + '…'}\n")
    show(f"\n{report['n_tensors']} tensors, {report['n_parameters']:,} parameters, ")
    show(f"{report['tensor_bytes'] / 1e6:,.1f} MB")
    if report["bits_per_weight"] is not None:
        show(f", {report['bits_per_weight']:.2f} bits a weight")
    show("\n")
    for name, kind in report["types"].items():
        show(
            f"  {name:8}{kind['tensors']:6} tensors {kind['parameters']:16,} parameters "
            f"{kind['bytes'] / 1e6:12,.1f} MB\n"
        )
    if "tensors" in report:
        show("\n")
    for tensor in report.get("tensors", []):
        shape = " x ".join(str(n) for n in tensor["shape"])
        show(f"  {tensor['name']:40}{tensor['type']:8}{shape:>20}{tensor['bytes']:14,} bytes\n")
