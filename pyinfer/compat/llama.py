"""llama-cpp-python's class `Llama`, on pyinfer's `LLM`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyinfer.compat.chat import Chats
from pyinfer.compat.completion import Completions
from pyinfer.compat.embedding import Embeddings
from pyinfer.compat.steps import Steps
from pyinfer.errors import ParameterError


class Llama(Completions, Chats, Embeddings, Steps):
    """A model with llama-cpp-python's methods and results; `llm` is the LLM below, for all else.

        llama = Llama("model.gguf", n_ctx=2048)
        print(llama("The capital of France is", max_tokens=16)["choices"][0]["text"])

    Takes all arguments of llama-cpp-python's constructor. Those without use on a CPU (n_gpu_layers, flash_attn, …) are
    warned of; those that would change what the model computes (lora_path, rope_freq_base, kv_overrides, …) are a
    ParameterError, as are unknown ones. docs/coming-from-llama-cpp-python.md has a table.
    Raises ParameterError for arguments and where there is no such file, and what LLM raises.
    """

    def __enter__(self) -> Llama:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        filename: str | None = None,
        additional_files: Sequence[str] | None = None,
        local_dir: str | Path | None = None,
        local_dir_use_symlinks: bool | str = "auto",
        cache_dir: str | Path | None = None,
        **kwargs: Any,
    ) -> Llama:
        """A model of the Hugging Face hub, which is fetched if the cache does not have it (`pip install pyinfer[hub]`).

        filename: a file's name, a pattern such as "*q8_0.gguf", a quant, or None for the usual one; parts of split
        models are found. Files lie in the hub's cache (HF_HOME): local_dir, cache_dir and additional_files must be
        None. Raises ParameterError for those, DownloadError if the model can't be fetched, and what Llama raises.
        """
        for name, value in (("additional_files", additional_files), ("local_dir", local_dir), ("cache_dir", cache_dir)):
            if value:
                raise ParameterError(f"{name} is {value!r:.60}; expected None: files lie in the hub's cache (HF_HOME)")
        wanted = None if filename is None else filename.strip("*-._").removesuffix(".gguf")
        if wanted is not None and "*" in wanted:
            raise ParameterError(f"filename is {filename!r}; expected a name, or a pattern with * at its ends")
        return cls(f"hf:{repo_id}" + (f":{wanted}" if wanted else ""), **kwargs)
