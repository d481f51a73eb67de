"""Computes the tables of docs/hardware.md: what models take of the memory, and how fast it can feed them.

    python docs/scripts/machines.py          prints the tables
    python docs/scripts/machines.py --write  writes them into the page

Sizes follow from the models' published shapes and from which format llama.cpp's mixtures give to which tensor.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pyinfer.gguf import TensorType

PAGE = Path(__file__).parents[1] / "hardware.md"
BLOCK = 256  # values of the K formats; matrices with other numbers of columns are given another format
FALLBACK = {TensorType.Q4_K: TensorType.Q5_0, TensorType.Q5_K: TensorType.Q5_1, TensorType.Q6_K: TensorType.Q8_0}
BANDWIDTHS = (20, 40, 80, 160, 320)  # GB/s
USED = 0.85  # of the read bandwidth, by generation: the lowest share that benchmarks/README.md has for whole models
CONTEXT = 1000  # tokens in the context, for the tables' keys and values
KV_BYTES = 2  # of a key's or value's element, f16


@dataclass(frozen=True)
class Shape:
    """A model. `window`: positions that all but one of `every` layers keep; 0: all layers keep all of them."""

    name: str
    n_layers: int
    n_embd: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_ff: int
    n_vocab: int
    tied: bool = False  # the output matrix is the embedding
    window: int = 0
    every: int = 1

    @property
    def n_global(self) -> int:
        """How many layers keep all positions."""
        return self.n_layers // self.every

    @property
    def kv_bytes(self) -> int:
        """Of a token, in the layers that keep all positions."""
        return 2 * self.n_global * self.n_kv_heads * self.head_dim * KV_BYTES

    @property
    def window_bytes(self) -> int:
        """What the other layers keep at most."""
        return 2 * (self.n_layers - self.n_global) * self.n_kv_heads * self.head_dim * KV_BYTES * self.window


SHAPES = (
    Shape("SmolLM2 135M", 30, 576, 9, 3, 64, 1536, 49_152, tied=True),
    Shape("Qwen2.5 0.5B", 24, 896, 14, 2, 64, 4864, 151_936, tied=True),
    Shape("Gemma 3 1B", 26, 1152, 4, 1, 256, 6912, 262_144, tied=True, window=512, every=6),
    Shape("Llama 3.2 1B", 16, 2048, 32, 8, 64, 8192, 128_256, tied=True),
    Shape("Qwen2.5 1.5B", 28, 1536, 12, 2, 128, 8960, 151_936, tied=True),
    Shape("Llama 3.2 3B", 28, 3072, 24, 8, 128, 8192, 128_256, tied=True),
    Shape("Qwen2.5 7B", 28, 3584, 28, 4, 128, 18_944, 152_064),
    Shape("Llama 3.1 8B", 32, 4096, 32, 8, 128, 14_336, 128_256),
    Shape("Qwen2.5 14B", 48, 5120, 40, 8, 128, 13_824, 152_064),
    Shape("Qwen2.5 32B", 64, 5120, 40, 8, 128, 27_648, 152_064),
    Shape("Llama 3.3 70B", 80, 8192, 64, 8, 128, 28_672, 128_256),
)
# the format of most matrices, and of the output and of half of the layers' attn_v and ffn_down
MIXTURES = {
    "Q4_K_M": (TensorType.Q4_K, TensorType.Q6_K),
    "Q5_K_M": (TensorType.Q5_K, TensorType.Q6_K),
    "Q6_K": (TensorType.Q6_K, TensorType.Q6_K),
    "Q8_0": (TensorType.Q8_0, TensorType.Q8_0),
    "F16": (TensorType.F16, TensorType.F16),
}


def use_more_bits(layer: int, n_layers: int) -> bool:
    """Whether llama.cpp's _M mixtures give a layer's attn_v and ffn_down the larger format."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def matrices(shape: Shape, mixture: str) -> Iterator[tuple[str, int, int, TensorType]]:
    """Name, rows, columns and format of each matrix."""
    usual, larger = MIXTURES[mixture]
    q, kv = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    yield "token_embd", shape.n_vocab, shape.n_embd, larger if shape.tied else usual
    if not shape.tied:
        yield "output", shape.n_vocab, shape.n_embd, larger
    for layer in range(shape.n_layers):
        more = larger if use_more_bits(layer, shape.n_layers) else usual
        yield "attn_q", q, shape.n_embd, usual
        yield "attn_k", kv, shape.n_embd, usual
        yield "attn_v", kv, shape.n_embd, more
        yield "attn_output", shape.n_embd, q, usual
        yield "ffn_gate", shape.n_ff, shape.n_embd, usual
        yield "ffn_up", shape.n_ff, shape.n_embd, usual
        yield "ffn_down", shape.n_embd, shape.n_ff, more


def n_bytes(shape: Shape, mixture: str, wanted: Callable[[str], bool] = lambda name: True) -> int:
    """Bytes of the matrices whose names are wanted. Norms and biases are left out: they are less than 0.1 %."""
    total = 0
    for name, n_rows, n_columns, kind in matrices(shape, mixture):
        fits = n_columns % BLOCK == 0
        stored = kind if fits else FALLBACK.get(kind, kind)
        total += n_rows * n_columns // stored.block_size * stored.block_bytes if wanted(name) else 0
    return total


def n_parameters(shape: Shape) -> int:
    return sum(n_rows * n_columns for _, n_rows, n_columns, _ in matrices(shape, "F16"))


def bytes_per_token(shape: Shape, mixture: str, n_context: int) -> int:
    """What generation reads for a token: all matrices that it multiplies with, and the keys and values before it."""
    read = n_bytes(shape, mixture, lambda name: shape.tied or name != "token_embd")
    window = shape.window_bytes * min(n_context, shape.window) // max(shape.window, 1)
    return read + shape.kv_bytes * n_context + window


def tokens_per_second(shape: Shape, mixture: str, gb_per_second: float, n_context: int = CONTEXT) -> float:
    return USED * gb_per_second * 1e9 / bytes_per_token(shape, mixture, n_context)


def figure(value: float) -> str:
    """Two digits, or whole numbers: what follows them would not be true anyway."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def memory_table() -> str:
    """GB of weights by format, and MB of keys and values of so many tokens as CONTEXT says."""
    head = ["model", "10⁹ weights", *MIXTURES, "KV cache"]
    rows = []
    for shape in SHAPES:
        sizes = [
            f"{n_bytes(shape, mixture) / 1e9:.{1 if n_bytes(shape, mixture) >= 1e10 else 2}f}" for mixture in MIXTURES
        ]
        kv = figure(shape.kv_bytes * CONTEXT / 1e6)
        rows.append([shape.name, f"{n_parameters(shape) / 1e9:.2f}", *sizes, kv])
    return table(head, rows)


def speed_table() -> str:
    """Tokens a second by bandwidth."""
    head = ["Q4_K_M", "GB", *(f"{gb} GB/s" for gb in BANDWIDTHS)]
    rows = []
    for shape in SHAPES:
        read = f"{bytes_per_token(shape, 'Q4_K_M', CONTEXT) / 1e9:.2f}"
        rows.append([shape.name, read, *(figure(tokens_per_second(shape, "Q4_K_M", gb)) for gb in BANDWIDTHS)])
    return table(head, rows)


TABLES = {"memory": memory_table, "speed": speed_table}


def with_tables(text: str) -> str:
    """The page, with each table after the comment that names it."""
    for name, make in TABLES.items():
        before, mark, after = text.partition(f"<!-- table: {name} -->\n\n")
        lines = after.splitlines(keepends=True)
        while lines and lines[0].startswith("|"):
            lines.pop(0)
        text = before + mark + make() + "\n" + "".join(lines).lstrip("\n")
    return text


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
    else:
        print(memory_table(), speed_table(), sep="\n", end="")
