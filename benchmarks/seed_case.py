"""Writes the seed case: a GGUF file of the shape and the formats of Qwen2.5-Coder-14B in Q5_K_M, with random weights.

    python benchmarks/seed_case.py FILE [--layers N] [--seed S]

Speed and memory follow from shapes and formats, not from what the weights are, so that the file stands for the real one
in measurements. Weights are scaled so that activations and logits stay of ordinary size. The file takes 10.5 GB, and
appears under its name when it is whole; it is written in pieces of 4 MB.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from seed_vocabulary import vocabulary

from pyinfer.gguf import GGUFWriter, TensorType
from pyinfer.progress import progress_bar

Progress = Callable[[int, int], None]

PIECE_BYTES = 4 << 20
HEADER_BYTES = 16 << 20  # more than metadata and index take
FILE_TYPE = 17  # llama.cpp's number of Q5_K_M
# Where a block holds its half floats, their sizes in terms of the first one such that values centre on zero, and the
# standard deviation of the values of random blocks when the first one is 1.
HALVES = {TensorType.Q5_K: {0: 1.0, 2: 15.5}, TensorType.Q6_K: {208: 1.0}}
DEVIATION = {TensorType.Q5_K: 519.0, TensorType.Q6_K: 1366.0}


@dataclass(frozen=True)
class Shape:
    """Of a qwen2 model; n_words: tokens of the vocabulary that are text."""

    n_layers: int = 48
    n_embd: int = 5120
    n_heads: int = 40
    n_kv_heads: int = 8
    n_ff: int = 13_824
    n_vocab: int = 152_064
    n_words: int = 151_643
    n_ctx: int = 32_768

    @property
    def n_kv(self) -> int:
        return self.n_embd // self.n_heads * self.n_kv_heads


@dataclass(frozen=True)
class Tensor:
    """One to write; mean and deviation of its values. shape is row-major."""

    name: str
    type: TensorType
    shape: tuple[int, ...]
    mean: float
    deviation: float

    @property
    def n_blocks(self) -> int:
        return math.prod(self.shape) // self.type.block_size

    @property
    def n_bytes(self) -> int:
        return self.n_blocks * self.type.block_bytes


def use_more_bits(layer: int, n_layers: int) -> bool:
    """Whether llama.cpp's _M mixtures give a layer's attn_v and ffn_down the larger format."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def tensors(shape: Shape) -> Iterator[Tensor]:
    """All tensors, in the order of the file."""

    def matrix(name: str, n_out: int, n_in: int, kind: TensorType = TensorType.Q5_K, scale: float = 1.0) -> Tensor:
        return Tensor(f"{name}.weight", kind, (n_out, n_in), 0.0, scale / math.sqrt(n_in))

    def norm(name: str) -> Tensor:
        return Tensor(f"{name}.weight", TensorType.F32, (shape.n_embd,), 1.0, 0.1)

    def bias(name: str, n: int) -> Tensor:
        return Tensor(f"{name}.bias", TensorType.F32, (n,), 0.0, 0.1)

    d, kv, ff = shape.n_embd, shape.n_kv, shape.n_ff
    yield matrix("token_embd", shape.n_vocab, d, scale=math.sqrt(d))
    for layer in range(shape.n_layers):
        large = TensorType.Q6_K if use_more_bits(layer, shape.n_layers) else TensorType.Q5_K
        blk = f"blk.{layer}."
        yield norm(blk + "attn_norm")
        yield matrix(blk + "attn_q", d, d)
        yield bias(blk + "attn_q", d)
        yield matrix(blk + "attn_k", kv, d)
        yield bias(blk + "attn_k", kv)
        yield matrix(blk + "attn_v", kv, d, large)
        yield bias(blk + "attn_v", kv)
        yield matrix(blk + "attn_output", d, d)
        yield norm(blk + "ffn_norm")
        yield matrix(blk + "ffn_gate", ff, d)
        yield matrix(blk + "ffn_up", ff, d)
        yield matrix(blk + "ffn_down", d, ff, large)
    yield norm("output_norm")
    yield matrix("output", shape.n_vocab, d, TensorType.Q6_K)


def metadata(shape: Shape) -> dict[str, Any]:
    return {
        "general.architecture": "qwen2",
        "general.name": "Random weights in the shape of Qwen2.5-Coder-14B",
        "general.file_type": FILE_TYPE,
        "general.quantization_version": 2,
        "qwen2.block_count": shape.n_layers,
        "qwen2.context_length": shape.n_ctx,
        "qwen2.embedding_length": shape.n_embd,
        "qwen2.feed_forward_length": shape.n_ff,
        "qwen2.attention.head_count": shape.n_heads,
        "qwen2.attention.head_count_kv": shape.n_kv_heads,
        "qwen2.attention.layer_norm_rms_epsilon": 1e-6,
        "qwen2.rope.freq_base": 1e6,
        **vocabulary(shape.n_vocab, shape.n_words),
    }


def random_blocks(rng: np.random.Generator, kind: TensorType, n_blocks: int, deviation: float) -> NDArray[np.uint8]:
    """Blocks uint8 [n_blocks, block_bytes] with any quants, and half floats for values of this standard deviation."""
    words = rng.integers(0, 2**64 - 1, -(-n_blocks * kind.block_bytes // 8), np.uint64, endpoint=True)
    blocks = words.view(np.uint8)[: n_blocks * kind.block_bytes].reshape(n_blocks, kind.block_bytes)
    scales = deviation / DEVIATION[kind] * rng.uniform(0.9, 1.1, n_blocks)
    for offset, ratio in HALVES[kind].items():
        blocks[:, offset : offset + 2] = (scales * ratio).astype("<f2")[:, None].view(np.uint8)
    return blocks


def pieces(tensor: Tensor, seed: int) -> Iterator[NDArray[Any]]:
    """A tensor's bytes; they depend on its name and the seed, not on the other tensors."""
    rng = np.random.Generator(np.random.SFC64([seed, zlib.crc32(tensor.name.encode())]))
    if tensor.type == TensorType.F32:
        yield rng.normal(tensor.mean, tensor.deviation, tensor.shape).astype("<f4")
        return
    step = PIECE_BYTES // tensor.type.block_bytes
    for first in range(0, tensor.n_blocks, step):
        yield random_blocks(rng, tensor.type, min(step, tensor.n_blocks - first), tensor.deviation)


def write_seed_case(path: Path, shape: Shape, seed: int = 0, progress: Progress | None = None) -> Path:
    """Writes the file and returns its path; progress(bytes done, bytes in all) is called after each piece.

    Raises OSError if the disk has no room for it.
    """
    total = sum(tensor.n_bytes for tensor in tensors(shape))
    free = shutil.disk_usage(path.absolute().parent).free
    if free < total + HEADER_BYTES:
        raise OSError(f"{path} needs {(total + HEADER_BYTES) / 1e9:.1f} GB; the disk has {free / 1e9:.1f} GB left")
    done = 0

    def counted(tensor: Tensor) -> Iterator[NDArray[Any]]:
        nonlocal done
        for piece in pieces(tensor, seed):
            yield piece
            done += piece.nbytes
            if progress is not None:
                progress(done, total)

    writer = GGUFWriter(path, metadata(shape))
    for tensor in tensors(shape):
        writer.add_tensor(tensor.name, partial(counted, tensor), tensor.type, tensor.shape)
    writer.write()
    return path


def progress_lines() -> Progress:
    """A line for each GB, where no terminal shows a bar."""
    shown = 0

    def show(done: int, total: int) -> None:
        nonlocal shown
        if done // 10**9 > shown or done == total:
            shown = done // 10**9
            print(f"{done / 1e9:.1f} of {total / 1e9:.1f} GB", file=sys.stderr, flush=True)

    return show


def main() -> int:
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("file", type=Path)
    p.add_argument(
        "--layers", type=int, default=Shape.n_layers, help="fewer make a smaller file (default: %(default)s)"
    )
    p.add_argument("--seed", type=int, default=0, help="of the random weights (default: %(default)s)")
    args = p.parse_args()
    try:
        write_seed_case(args.file, Shape(n_layers=args.layers), args.seed, progress_bar("writing") or progress_lines())
    except OSError as error:
        sys.exit(f"seed_case.py: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
