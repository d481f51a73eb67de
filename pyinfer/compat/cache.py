"""llama-cpp-python's prompt caches, for `Llama.set_cache`.

A `Llama` shares the prefixes of its prompts by itself. A cache holds states beyond that: for other `Llama` objects of
the same file, and on the disk for later processes.
"""

from __future__ import annotations

import abc
import hashlib
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from pyinfer.arguments import check_integer
from pyinfer.compat.context import LlamaState

TokenIds = tuple[int, ...]


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the prefix that two sequences share, in tokens."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def longest_prefix(keys: Iterable[TokenIds], tokens: Sequence[int]) -> TokenIds | None:
    """Return the key that has the longest common prefix with these tokens; None if none has any."""
    best = max(keys, key=lambda key: common_prefix(key, tokens), default=None)
    return best if best is not None and common_prefix(best, tokens) > 0 else None


class BaseLlamaCache(abc.ABC):
    """States by their tokens. A key finds the state with the longest common prefix; KeyError: there is none.

    - `capacity_bytes` (2 GiB; at least 0): the states that were used longest ago are dropped beyond it.
    """

    def __init__(self, capacity_bytes: int = 2 << 30) -> None:
        check_integer("capacity_bytes", capacity_bytes, 0, None, "a whole number of at least 0")
        self.capacity_bytes = capacity_bytes

    @property
    @abc.abstractmethod
    def cache_size(self) -> int:
        """How many bytes the states have."""

    @abc.abstractmethod
    def __getitem__(self, key: Sequence[int]) -> LlamaState: ...

    @abc.abstractmethod
    def __contains__(self, key: Sequence[int]) -> bool: ...

    @abc.abstractmethod
    def __setitem__(self, key: Sequence[int], value: LlamaState) -> None: ...


class LlamaRAMCache(BaseLlamaCache):
    """States in memory. `capacity_bytes` is as for BaseLlamaCache.

    llama.set_cache(LlamaRAMCache(capacity_bytes=1 << 30))
    """

    def __init__(self, capacity_bytes: int = 2 << 30) -> None:
        super().__init__(capacity_bytes)
        self.cache_state: OrderedDict[TokenIds, LlamaState] = OrderedDict()

    @property
    def cache_size(self) -> int:
        return sum(state.llama_state_size for state in self.cache_state.values())

    def __getitem__(self, key: Sequence[int]) -> LlamaState:
        found = longest_prefix(self.cache_state, key)
        if found is None:
            raise KeyError("no state has a common prefix with these tokens")
        self.cache_state.move_to_end(found)
        return self.cache_state[found]

    def __contains__(self, key: Sequence[int]) -> bool:
        return longest_prefix(self.cache_state, key) is not None

    def __setitem__(self, key: Sequence[int], value: LlamaState) -> None:
        name = tuple(map(int, key))
        self.cache_state[name] = value
        self.cache_state.move_to_end(name)
        while self.cache_size > self.capacity_bytes and len(self.cache_state) > 1:
            self.cache_state.popitem(last=False)


class LlamaDiskCache(BaseLlamaCache):
    """States in the files of a folder, which later processes find. Files that can't be read are ignored.

    - `cache_dir`: the folder, which is made if it is missing. `capacity_bytes` is as for BaseLlamaCache.

        llama.set_cache(LlamaDiskCache("~/.cache/states"))
    """

    def __init__(self, cache_dir: str | Path = ".cache/llama_cache", capacity_bytes: int = 2 << 30) -> None:
        super().__init__(capacity_bytes)
        self.cache_dir = Path(cache_dir).expanduser()
        self.cache_dir.mkdir(parents=True, exist_ok=True)
        self._keys: dict[Path, TokenIds] = {}

    def _files(self) -> list[Path]:
        """Return the files of states, those first that were used longest ago; keep their tokens."""
        files = sorted(self.cache_dir.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
        for path in files:
            if path not in self._keys:
                state = read_state(path)
                self._keys[path] = () if state is None else tuple(state.input_ids.tolist())
        return files

    def _find(self, key: Sequence[int]) -> Path | None:
        files = {self._keys[path]: path for path in self._files()}
        found = longest_prefix(files, key)
        return None if found is None else files[found]

    @property
    def cache_size(self) -> int:
        return sum(path.stat().st_size for path in self._files())

    def __getitem__(self, key: Sequence[int]) -> LlamaState:
        path = self._find(key)
        state = None if path is None else read_state(path)
        if path is None or state is None:
            raise KeyError("no state has a common prefix with these tokens")
        path.touch()
        return state

    def __contains__(self, key: Sequence[int]) -> bool:
        return self._find(key) is not None

    def __setitem__(self, key: Sequence[int], value: LlamaState) -> None:
        ids = np.asarray(key, np.intc)
        path = self.cache_dir / f"{hashlib.sha256(ids.tobytes()).hexdigest()[:32]}.npz"
        write_state(path, ids, value)
        self._keys[path] = tuple(ids.tolist())
        files = self._files()
        while len(files) > 1 and sum(file.stat().st_size for file in files) > self.capacity_bytes:
            files.pop(0).unlink()


def write_state(path: Path, tokens: np.ndarray, state: LlamaState) -> None:
    """Write a state to a file of arrays, which reading can't make run code."""
    session = np.frombuffer(state.llama_state, np.uint8)
    seed = np.array([] if state.seed is None else [state.seed], np.int64)
    scratch = path.with_suffix(".part")
    with scratch.open("wb") as file:
        np.savez(file, input_ids=tokens, scores=state.scores, llama_state=session, seed=seed)
    scratch.replace(path)


def read_state(path: Path) -> LlamaState | None:
    """Read a state; None if the file is none or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            ids, seed = file["input_ids"], file["seed"].tolist()
            state = file["llama_state"].tobytes()
            return LlamaState(ids, file["scores"], len(ids), state, seed[0] if seed else None)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


LlamaCache = LlamaRAMCache
