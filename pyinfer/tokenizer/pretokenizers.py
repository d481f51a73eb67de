"""How byte-level BPE models cut a text into words before merging, by the name in `tokenizer.ggml.pre`.

A pre-tokenizer is a sequence of patterns. Each pattern cuts the pieces that the pattern before it gave: its matches
become pieces, and so do the texts between them. Quantifiers are possessive wherever the matches stay the same, so that
on no text a pattern backtracks more than linearly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import regex

CONTRACTIONS = r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
GPT2 = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s+(?!\S)"
# A word may begin with one character that is no letter, digit or newline; symbols take the newlines after them.
LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}++"
SYMBOLS = r" ?[^\s\p{L}\p{N}]++[\r\n]*+"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
# Jais 2 takes long runs of spaces in powers of two; each is one match, so none is longer than 512.
RUNS = "|".join(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4)) + r"|\s{1,2}(?!\S)|\s"
JAIS2 = rf"{CONTRACTIONS}|{LETTERS}|\p{{N}}{{1,3}}|{SYMBOLS}|\s*[\r\n]+|{RUNS}"
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
PUNCTUATED = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]++|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]++"
DEEPSEEK3 = rf"{PUNCTUATED}| ?[\p{{P}}\p{{S}}]++[\r\n]*+|{SPACES}"
HAN_AND_KANA = "[一-龥\u3040-ゟ゠-ヿ]++"
CJK = "[一-龥ࠀ-一가-퟿]++"
# The letters that DeepSeek's tokenizer.json spells out: those with case, as Unicode had them then.
CASED_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼ"
    "ℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
DIGIT = r"\p{N}"
DIGITS_OF_3 = r"\p{N}{1,3}"
# Scripts without spaces between words, as AFMoE takes them: ideographs, kana, Thai, Lao, Khmer, Burmese, Hangul.
UNSPACED = (
    "[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff"
    "\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]++"
)
YOUTU = "[가-힣ㄱ-ㆎ]++|[！…“”‘’—：；，、-〿︰-﹏]++|[ㄅ-ㄯ]++|[一-龥\u3040-ゟ゠-ヿ]++"
# Words with spaces between them are one piece.
EXAONE_MOE = (
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*+(?: \p{{L}}\p{{M}}*+)*+)++|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
PHRASES = " ?[^(\\s|.,!?…。，、।۔،)]++"


@dataclass(frozen=True)
class GroupedFromEnd:
    """A pattern whose matches are cut into groups of three, the first of which may be shorter: 1 234 567."""

    pattern: str


@dataclass(frozen=True)
class PreTokenizer:
    """The patterns of a pre-tokenizer in their order, and settings that its name decides as well."""

    patterns: tuple[str | GroupedFromEnd, ...]
    whole_words: bool = False  # a word that is a token becomes that token, whatever the merges would give
    add_bos: bool = False  # unless the file says otherwise
    characters: bool = False  # the vocabulary has characters and U+2581 for spaces, not bytes

    def compile(self) -> "Splitter":
        return Splitter(self.patterns)


class Splitter:
    """Compiled patterns of a pre-tokenizer."""

    def __init__(self, patterns: tuple[str | GroupedFromEnd, ...]) -> None:
        # In version 1 a class may be a difference of classes; the capture makes split() keep the matches.
        self._cuts: list[Callable[[str], list[str]]] = []
        for step in patterns:
            if isinstance(step, GroupedFromEnd):
                self._cuts.append(partial(_split_groups, regex.compile(f"({step.pattern})", regex.VERSION1)))
            else:
                self._cuts.append(regex.compile(f"({step})", regex.VERSION1).split)

    def split(self, text: str) -> list[str]:
        """Cut a text into words; joined, they are the text."""
        words = [text]
        for cut in self._cuts:
            words = [piece for word in words for piece in cut(word) if piece]
        return words


def _split_groups(pattern: Any, word: str) -> list[str]:
    pieces: list[str] = []
    for i, piece in enumerate(pattern.split(word)):
        if i % 2 == 0:  # between matches
            pieces.append(piece)
        else:
            first = len(piece) % 3
            pieces += [piece[:first], *(piece[at : at + 3] for at in range(first, len(piece), 3))]
    return pieces


_GPT2 = PreTokenizer((GPT2,))
_DIGITS_GPT2 = PreTokenizer((DIGIT, GPT2))
_LLAMA3 = PreTokenizer((LLAMA3,))
_LLAMA3_BOS = PreTokenizer((LLAMA3,), whole_words=True, add_bos=True)
_QWEN2 = PreTokenizer((QWEN2,))
_O200K = PreTokenizer((O200K,))
_DEEPSEEK3 = PreTokenizer((DIGITS_OF_3, HAN_AND_KANA, DEEPSEEK3))
_TINY_AYA = PreTokenizer((GroupedFromEnd(r"\d++(?![\p{L}\p{M}\p{N}\p{Pc}])"), O200K))  # where a word ends
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
    "jais-2": PreTokenizer((JAIS2,)),
    "minicpm5": PreTokenizer(
        (DIGITS_OF_3, rf"{CONTRACTIONS}|{LETTERS}|\p{{N}}++|{SYMBOLS}|{SPACES}"), whole_words=True
    ),
    "spark2_5": PreTokenizer(
        (DIGITS_OF_3, HAN_AND_KANA, rf"{PUNCTUATED}| ?[\p{{P}}\p{{S}}]++|[\r\n]|\s+(?!\S)|\s+", DIGIT)
    ),
    "youtu": PreTokenizer((YOUTU, cased(f"(?:{CONTRACTIONS})?+", r"\p{N}")), whole_words=True),
    "chameleon": PreTokenizer(
        ("<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", r"[\t\n]|    |  ", DIGIT, r"[\p{P}!-/:-@\[-`{-~]", GPT2),
        add_bos=True,
    ),
    "granite-embed-multi-97m": PreTokenizer((O200K,), whole_words=True),
    **dict.fromkeys(("tiny_aya", "cohere2moe"), _TINY_AYA),
    "superbpe": PreTokenizer((r"\p{N}++", GroupedFromEnd(r"\d++"))),
    "exaone-moe": PreTokenizer((EXAONE_MOE,)),
    "ufakzeka": PreTokenizer((rf"{LETTERS}|\p{{N}}|{SYMBOLS}|{SPACES}",)),
    "afmoe": PreTokenizer((GroupedFromEnd(r"\p{N}++"), UNSPACED, DEEPSEEK3)),
    **dict.fromkeys(("gemma4", "granite-embed-multi-311m"), PreTokenizer((r"[^\n]++|\n++",), characters=True)),
    "laguna": PreTokenizer((r"[^\n]++|\n++", QWEN2)),
}
