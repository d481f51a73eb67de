"""What a file or a folder is that is no GGUF file, and what to do with it, for errors."""

from __future__ import annotations

from pathlib import Path

CONVERT = (
    "pyinfer reads GGUF files: look for one of this model (https://huggingface.co/models?library=gguf), or make one "
    "with llama.cpp's convert_hf_to_gguf.py"
)
# the first bytes of a file -> what it is and what to do
MAGICS = {
    b"version https://git-lfs": "a pointer of Git LFS; `git lfs pull` fetches the file itself",
    b"<!DOCTYPE": "a web page, saved in place of the file; download the file itself",
    b"<html": "a web page, saved in place of the file; download the file itself",
    b"PK\x03\x04": f"a ZIP archive, as PyTorch's weights are; {CONVERT}",
    **dict.fromkeys((b"lmgg", b"fmgg", b"tjgg"), "a GGML file of before August 2023, a format that is no longer used"),
}
LONGEST_MAGIC = max(map(len, MAGICS))
SAFETENSORS = "*.safetensors"
N_LISTED = 5  # files of a folder that an error names


def foreign_file(path: Path, start: bytes) -> str:
    """What a file is that begins with these bytes; empty if that is not known."""
    if path.suffix == ".safetensors" or start[8:9] == b"{":  # a length in 8 bytes, then JSON
        return f"it is a safetensors file; {CONVERT}"
    found = next((what for magic, what in MAGICS.items() if start.lower().startswith(magic.lower())), None)
    return "" if found is None else f"it is {found}"


def foreign_folder(path: Path) -> str:
    """What a folder holds: the GGUF files to choose from, or a model in another format."""
    files = sorted(file.name for file in path.glob("*.gguf"))
    if files:
        more = ", …" if len(files) > N_LISTED else ""
        return f"expected one of its files: {', '.join(files[:N_LISTED])}{more}"
    if any(path.glob(SAFETENSORS)) or (path / "config.json").exists():
        return f"it holds a model for transformers; {CONVERT} {path}"
    return "expected a GGUF file"
