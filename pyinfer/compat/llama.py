"""llama-cpp-python's class `Llama`, on pyinfer's `LLM`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyinfer.compat.chat import Chats
from pyinfer.compat.completion import Completions
from pyinfer.compat.embedding import Embeddings
from pyinfer.compat.steps import Steps
from pyinfer.errors import ParameterError


class Llama(Completions, Chats, Embeddings, Steps):
    """Load a model, with llama-cpp-python's arguments, methods and results.

    `llm` is the LLM that computes, for all that llama-cpp-python does not have. The arguments are those of
    llama-cpp-python's constructor; docs/coming-from-llama-cpp-python.md has a table of them:

    - `model_path`: a GGUF file, or a name that `pyinfer.hub` knows.
    - `n_ctx` (512; at least 0): tokens that a prompt and its text may have together; 0: as the model was trained.
    - Arguments without use on a CPU (`n_gpu_layers`, `flash_attn`, …) are warned of.
    - Arguments that would change what the model computes (`lora_path`, `rope_freq_base`, `kv_overrides`, …) are
      refused, as unknown ones are.

    Raises ParameterError for arguments and for a file that does not exist, and what LLM raises.

        llama = Llama("model.gguf", n_ctx=2048)
        print(llama("The capital of France is", max_tokens=16)["choices"][0]["text"])
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
        """Load a model of the Hugging Face hub, and download it first if needed (`pip install 'pyinfer-gguf[hub]'`).

        - `repo_id`: "ORG/REPO".
        - `filename` (None): a file's name, a pattern such as "*q8_0.gguf", or a quant; None: the usual one. Of a split
          model all parts are downloaded.
        - `additional_files`, `local_dir`, `cache_dir`: must be None, since files are in the hub's cache (HF_HOME).
        - `kwargs`: Llama's other arguments.

        Raises ParameterError for arguments, DownloadError if the model can't be downloaded, and what Llama raises.

            Llama.from_pretrained("Qwen/Qwen2.5-0.5B-Instruct-GGUF", "*q8_0.gguf")
        """
        for name, value in (("additional_files", additional_files), ("local_dir", local_dir), ("cache_dir", cache_dir)):
            if value:
                raise ParameterError(f"{name} is {value!r:.60}; expected None: files lie in the hub's cache (HF_HOME)")
        wanted = None if filename is None else filename.strip("*-._").removesuffix(".gguf")
        if wanted is not None and "*" in wanted:
            raise ParameterError(f"filename is {filename!r}; expected a name, or a pattern with * at its ends")
        return cls(f"hf:{repo_id}" + (f":{wanted}" if wanted else ""), **kwargs)


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("pyinfer.compat"), name)  # `llama_cpp.llama` has all of llama_cpp's names
