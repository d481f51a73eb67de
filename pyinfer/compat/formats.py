"""llama-cpp-python's chat formats by their names, as a table; each row becomes a template in Jinja.

The prompts are llama-cpp-python's, character by character, but for three formats with which it loses messages or writes
a placeholder: "open-orca" (it leaves out every message), "saiga" (the assistant's) and "intel" ("{system_message}").
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
SNOOZY = (
    "The prompt below is a question to answer, a task to complete, or a conversation to respond to; decide which and "
    "write an appropriate response."
)
BUDDY = """\
You are a helpful, respectful and honest INTP-T AI Assistant named Buddy. You are talking to a human User.
Always answer as helpfully and logically as possible, while being safe. Your answers should not include any harmful, \
political, religious, unethical, racist, sexist, toxic, dangerous, or illegal content. Please ensure that your \
responses are socially unbiased and positive in nature.
If a question does not make any sense, or is not factually coherent, explain why instead of answering something not \
correct. If you don't know the answer to a question, please don't share false information.
You can speak fluently in many languages, for example: English, Chinese.
You cannot access the internet, but you have vast knowledge, cutoff: 2021-09.
You are trained by OpenBuddy team, (https://openbuddy.ai, https://github.com/OpenBuddy/OpenBuddy), you are based on \
LLaMA and Falcon transformers model, not related to GPT or OpenAI.

"""
ORCA = (
    "You are a helpful assistant. Please answer truthfully and write out your thinking step by step to be sure you get "
    "the right answer. If you make a mistake or encounter an error in your thinking, say so out loud and attempt to "
    "correct it. If you don't know or aren't sure about something, say so clearly. You will act as a professional "
    "logician, mathematician, and physicist. You will also act as the most appropriate type of expert to answer any "
    "particular question or solve the relevant problem; state which expert type your are, if so. Also think of any "
    "particular named expert that would be ideal to answer the relevant question or solve the relevant problem; name "
    "and act as them, if appropriate."
)


@dataclass(frozen=True)
class Format:
    """How a conversation is written.

    - `user`, `assistant`: what precedes the messages of these roles; `others`: of further roles.
    - `between`: what stands between that and the text.
    - `ends`: what follows the texts of the first, second, first … message.
    - `system`: what precedes everything; "{}" is the first system message, or `default` where there is none.
    - `opening`: the beginning of the answer, behind `assistant`; None: the prompt ends without either.
    - `stop`: texts that end the answer.
    - `merged_end`: where it is given, the first message follows a system message without its role, and this ends both.
    """

    user: str
    assistant: str
    ends: tuple[str, ...] = ("",)
    between: str = ""
    system: str = ""
    default: str = ""
    opening: str | None = ""
    stop: tuple[str, ...] = ()
    others: dict[str, str] = field(default_factory=dict)
    merged_end: str = ""

    def template(self) -> str:
        """Return the format as a template in Jinja."""
        before, placed, after = self.system.partition("{}")
        written = f"{quote(before)} + system + {quote(after)}" if placed else quote(before)
        if self.merged_end:
            written = f"({written} if system else '') + {quote(self.merged_end)}"
        roles = {"user": self.user, "assistant": self.assistant, **self.others}
        lines = [
            "set found = messages | selectattr('role', 'equalto', 'system') | map(attribute='content') | list",
            f"set system = (found[0] if found else '') or {quote(self.default)}",
            f"set roles = {{{', '.join(f'{quote(role)}: {quote(text)}' for role, text in roles.items())}}}",
            f"set ends = [{', '.join(map(quote, self.ends))}]",
        ]
        blocks = "".join(f"{{%- {line} %}}" for line in lines) + f"{{{{- {written} }}}}"
        message = (
            f"roles[message.role] + {quote(self.between)} + message.content + ends[loop.index0 % {len(self.ends)}]"
        )
        if self.merged_end:
            message = f"message.content + {quote(self.merged_end)} if loop.first and system else {message}"
        blocks += "{%- for message in messages if message.role in roles and message.content %}"
        blocks += f"{{{{- {message} }}}}{{%- endfor %}}"
        if self.opening is not None:
            blocks += (
                f"{{%- if add_generation_prompt %}}{{{{- {quote(self.assistant + self.opening)} }}}}{{%- endif %}}"
            )
        return blocks


def quote(text: str) -> str:
    """Return a text as a literal of Jinja."""
    return json.dumps(text)


def blocks(start: str, end: str, stop: str | None = None, default: str = "") -> Format:
    """Return a format of messages that begin with `start`, their role and a line break."""
    user, assistant, system = (start.format(role) for role in ("user", "assistant", "system"))
    ends = (end + "\n",)
    return Format(user, assistant, ends, "\n", f"{system}\n{{}}{end}\n", default, "\n", (stop or end,))


def colons(
    user: str, assistant: str, ends: Sequence[str], system: str = "{}", opening: str | None = ":", default: str = "",
    stop: tuple[str, ...] = (),
) -> Format:  # fmt: skip
    """Return a format of "ROLE: text"; the system message ends as the first message does."""
    return Format(user, assistant, tuple(ends), ": ", system + ends[0], default, opening, stop)


HEADER = "<|start_header_id|>{}<|end_header_id|>\n\n"
FORMATS: dict[str, Format] = {
    "llama-2": Format(
        "<s>[INST]", "[/INST]", ("  ", " </s>"), system="[INST] <<SYS>>\n{}\n<</SYS>>", merged_end=" ",
    ),
    "llama-3": Format(
        HEADER.format("user"), HEADER.format("assistant"), ("<|eot_id|>",), stop=("<|eot_id|>",),
        others={"system": HEADER.format("system")},
    ),
    "alpaca": colons("### Instruction", "### Response", ("\n\n", "</s>"), opening=None),
    "qwen": blocks("<|im_start|>{}", "<|im_end|>", "<|endoftext|>", "You are a helpful assistant."),
    "vicuna": colons("USER", "ASSISTANT", (" ", "</s>"), VICUNA),
    "oasst_llama": Format("<|prompter|>", "<|assistant|>", ("</s>",), system="[INST] <<SYS>>\n{}\n<</SYS>>\n\n"),
    "baichuan-2": Format("<reserved_106>", "<reserved_107>", system="{}"),
    "baichuan": Format("<reserved_102>", "<reserved_103>", system="{}"),
    "openbuddy": colons("User", "Assistant", ("\n",), BUDDY),
    "redpajama-incite": colons("<human>", "<bot>", ("\n",), stop=("<human>",)),
    "snoozy": colons("### Prompt", "### Response", ("\n",), default=SNOOZY, stop=("###",)),
    "phind": colons(
        "### User Message", "### Assistant", ("\n\n",),
        "### System Prompt\nYou are an intelligent programming assistant.",
    ),
    "intel": colons("### User:", "### Assistant:", ("\n",), "### System:\n{}"),
    "open-orca": colons("User", "Assistant", ("<|end_of_turn|>\n",), ORCA, opening=": ", stop=("User",)),
    "mistrallite": Format("<|prompter|>", "</s>\n<|assistant|>", (" ",), system="<|system|>{}</s>"),
    "zephyr": Format(
        "<|user|>\n", "<|assistant|>\n", ("</s>\n",), "\n", "<|system|>\n{}</s>\n", opening="\n", stop=("</s>",),
    ),
    "pygmalion": Format("<|user|>", "<|model|>", ("\n\n",), "\n", "<|system|>{}\n\n", opening="\n", stop=("\n",)),
    "chatml": blocks("<|im_start|>{}", "<|im_end|>"),
    "mistral-instruct": Format("[INST] ", " [/INST]", ("", "</s>"), stop=("</s>",)),
    "chatglm3": Format("<|user|>", "<|assistant|>", between="\n ", system="<|system|>\n{}", stop=("</s>",)),
    "openchat": Format(
        "GPT4 Correct User: ", "<|end_of_turn|>GPT4 Correct Assistant: ", ("<|end_of_turn|>\n",), "\n",
        "{}<|end_of_turn|><|end_of_turn|>\n", opening="\n", stop=("<|end_of_turn|>",),
    ),
    "saiga": Format("<s>user", "<s>bot", ("</s>",), "\n", others={"system": "<s>system"}),
    "gemma": Format(
        "<start_of_turn>user\n", "<start_of_turn>model\n", ("<end_of_turn>\n",), stop=("<end_of_turn>\n",),
    ),
}  # fmt: skip
