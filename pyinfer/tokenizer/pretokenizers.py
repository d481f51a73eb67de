"""How byte-level BPE models cut a text into words before merging, by the name in `tokenizer.ggml.pre`.

A pre-tokenizer is a sequence of patterns. Each pattern cuts the pieces that the pattern before it gave: its matches
become pieces, and so do the texts between them. Quantifiers are possessive wherever the matches stay the same, so that
on no text a pattern backtracks more than linearly.
"""

from dataclasses import dataclass
from typing import Any

import regex

CONTRACTIONS = r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
GPT2 = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s+(?!\S)"
# A word may begin with one character that is no letter, digit or newline; symbols take the newlines after them.
LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}++"
SYMBOLS = r" ?[^\s\p{L}\p{N}]++[\r\n]*+"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = rf"{CONTRACTIONS}|{LETTERS}|\p{{N}}{{1,3}}|{SYMBOLS}|{SPACES}"
QWEN2 = rf"{CONTRACTIONS}|{LETTERS}|\p{{N}}|{SYMBOLS}|{SPACES}"
QWEN35 = (
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]++|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]++[\r\n]*+|{SPACES}"
)


def cased(
    suffix: str, digits: str, upper: str = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", symbol_tail: str = r"[\r\n/]*+"
) -> str:
    """The pattern of o200k and its relatives: a word also ends where upper case follows lower case."""
    lower = upper.replace(r"\p{Lu}\p{Lt}", r"\p{Ll}")
    lead = r"[^\r\n\p{L}\p{N}]?"
    return (
        rf"{lead}{upper}*{lower}++{suffix}|{lead}{upper}++{lower}*+{suffix}"
        rf"|{digits}| ?[^\s\p{{L}}\p{{N}}]++{symbol_tail}|{SPACES}"
    )


O200K = cased(f"(?:{CONTRACTIONS})?+", r"\p{N}{1,3}")
TEKKEN = cased("", r"\p{N}")
KIMI = r"\p{Han}++|" + cased(
    f"(?:{CONTRACTIONS})?+", r"\p{N}{1,3}", r"[[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]--\p{Han}]", r"[\r\n]*+"
)
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]++|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]++"
    rf"| ?[\p{{P}}\p{{S}}]++[\r\n]*+|{SPACES}"
)
CJK = "[一-龥ࠀ-一가-퟿]++"
# The letters that DeepSeek's tokenizer.json spells out: those with case, as Unicode had them then.
CASED_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼ"
    "ℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
DIGIT = r"\p{N}"
DIGITS_OF_3 = r"\p{N}{1,3}"
PHRASES = " ?[^(\\s|.,!?…。，、।۔،)]++"


@dataclass(frozen=True)
class PreTokenizer:
    """The patterns of a pre-tokenizer in their order, and two settings that its name decides as well."""

    patterns: tuple[str, ...]
    whole_words: bool = False  # a word that is a token becomes that token, whatever the merges would give
    add_bos: bool = False  # unless the file says otherwise

    def compile(self) -> "Splitter":
        return Splitter(self.patterns)


class Splitter:
    """Compiled patterns of a pre-tokenizer."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        # In version 1 a class may be a difference of classes; the capture makes split() keep the matches.
        self._patterns: list[Any] = [regex.compile(f"({p})", regex.VERSION1) for p in patterns]

    def split(self, text: str) -> list[str]:
        """Cut a text into words; joined, they are the text."""
        words = [text]
        for pattern in self._patterns:
            words = [piece for word in words for piece in pattern.split(word) if piece]
        return words


_GPT2 = PreTokenizer((GPT2,))
_DIGITS_GPT2 = PreTokenizer((DIGIT, GPT2))
_LLAMA3 = PreTokenizer((LLAMA3,))
_LLAMA3_BOS = PreTokenizer((LLAMA3,), whole_words=True, add_bos=True)
_QWEN2 = PreTokenizer((QWEN2,))
_O200K = PreTokenizer((O200K,))
_DEEPSEEK3 = PreTokenizer((DIGITS_OF_3, "[一-龥぀-ゟ゠-ヿ]++", DEEPSEEK3))
_BAILING = PreTokenizer((rf"{CONTRACTIONS}|{LETTERS}|\p{{N}}|{SYMBOLS}|\s*[\r\n]|\s+(?!\S)|\s+",))
_PHRASES = PreTokenizer((PHRASES,))

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "default": PreTokenizer((r"[\p{P}\$\+<=>\^~\|]++", GPT2, r"\p{N}++", "[0-9][0-9][0-9]")),
    **dict.fromkeys(("gpt-2", "phi-2", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de"), _GPT2),
    **dict.fromkeys(("jina-v2-code", "roberta-bpe", "gigachat", "a.x-4.0", "mellum", "modern-bert"), _GPT2),
    **dict.fromkeys(("mpt", "olmo", "jais", "exaone4", "trillion", "granite-docling"), _GPT2),
    **dict.fromkeys(("starcoder", "refact", "command-r", "smollm", "codeshell"), _DIGITS_GPT2),
    **dict.fromkeys(("exaone", "minerva-7b", "mellum2"), _DIGITS_GPT2),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral"), _LLAMA3_BOS),
    **dict.fromkeys(("midm-2.0", "lfm2", "jina-v5-nano"), _LLAMA3_BOS),
    **dict.fromkeys(("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), _LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2"), _QWEN2),
    **dict.fromkeys(("hunyuan", "solar-open", "grok-2"), _QWEN2),
    "qwen35": PreTokenizer((QWEN35,)),
    "seed-coder": PreTokenizer((rf"{CONTRACTIONS}|{LETTERS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]++|{SPACES}",)),
    **dict.fromkeys(("bailingmoe", "bailingmoe2", "llada-moe"), _BAILING),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"), _O200K),
    "tekken": PreTokenizer((TEKKEN,), whole_words=True, add_bos=True),
    "kimi-k2": PreTokenizer((KIMI,)),
    "deepseek-llm": PreTokenizer(
        (
            "[\r\n]",
            rf"\s?[{CASED_LETTERS}]++",
            r"\s?[!-/:-~！-／：-～‘-‟　-。]++",
            r"(?<!\s)\s++$",  # the look-behind lets only the start of a run of spaces be tried
            CJK,
            r"\p{N}++",
        )
    ),
    "deepseek-coder": PreTokenizer(("[\r\n]", r"\s?\p{L}++", r"\s?\p{P}++", CJK, DIGIT)),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"), _DEEPSEEK3),
    "falcon": PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]++", GPT2, "[0-9][0-9][0-9]")),
    **dict.fromkeys(("poro-chat", "bloom", "gpt3-finnish"), _PHRASES),
    "viking": PreTokenizer((PHRASES, DIGIT)),
}
