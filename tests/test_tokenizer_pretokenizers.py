"""Words of a text equal those of the published tokenizers' own patterns, run by Hugging Face's engine."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from pyinfer.tokenizer.pretokenizers import PRE_TOKENIZERS

tokenizers = pytest.importorskip("tokenizers")
from tokenizers.pre_tokenizers import Digits, Punctuation, Sequence, Split  # noqa: E402

CONTRACTIONS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
END = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
START = r"[^\r\n\p{L}\p{N}]?"
QWEN2 = rf"{CONTRACTIONS}|{START}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{END}"
LLAMA3 = rf"{CONTRACTIONS}|{START}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{END}"
TEKKEN = rf"{START}{UPPER}*{LOWER}+|{START}{UPPER}+{LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{END}"
O200K = (
    rf"{START}{UPPER}*{LOWER}+{CONTRACTIONS}?|{START}{UPPER}+{LOWER}*{CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{END}"
)
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
    + END
)


def split(pattern):
    return Split(tokenizers.Regex(pattern), "isolated")


PUBLISHED = {
    "gpt-2": split(GPT2),
    "smollm": Sequence([Digits(individual_digits=True), split(GPT2)]),
    "starcoder": Sequence([Digits(individual_digits=True), split(GPT2)]),
    "refact": Sequence([Digits(individual_digits=True), split(GPT2)]),
    "qwen2": split(QWEN2),
    "llama-bpe": split(LLAMA3),
    "tekken": split(TEKKEN),
    "gpt-4o": split(O200K),
    "falcon": Sequence([Punctuation("contiguous"), split(GPT2), split("[0-9][0-9][0-9]")]),
    "deepseek-v3": Sequence([split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK3)]),
    "deepseek-coder": Sequence(
        [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"), split(r"\p{N}")]
    ),
}
PUNCTUATED = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
RIGHT_ALIGNED = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"
PUBLISHED |= {
    "jais-2": split(
        rf"{CONTRACTIONS}|{START}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|"
        + "|".join(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4, "1,2"))
        + r"|\s{1}"
    ),
    "minicpm5": Sequence(
        [
            split(r"\p{N}{1,3}"),
            split(rf"{CONTRACTIONS}|{START}\p{{L}}+|\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{END}"),
        ]
    ),
    "spark2_5": Sequence(
        [
            split(r"\p{N}{1,3}"),
            split("[一-龥\u3040-ゟ゠-ヿ]+"),
            split(PUNCTUATED + r"| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"),
            split(r"\p{N}"),
        ]
    ),
    "youtu": Sequence(
        [
            split("[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u3040-ゟ゠-ヿ]+"),
            split(O200K.replace("{1,3}", "")),
        ]
    ),
    "granite-embed-multi-97m": split(O200K),
    "tiny_aya": Sequence([split(r"\d{1,3}(?=(?:\d{3})*\b)"), split(O200K)]),
    "cohere2moe": Sequence([split(r"\d{1,3}(?=(?:\d{3})*\b)"), split(O200K)]),
    "exaone-moe": split(
        rf"{CONTRACTIONS}|{START}(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
    ),
    "ufakzeka": split(rf"{START}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{END}"),
    "afmoe": Sequence(
        [
            split(RIGHT_ALIGNED),
            split(
                "[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf"
                "\u0e40-\u0e7f\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af"
                "\u1100-\u11ff]+"
            ),
            split(DEEPSEEK3),
        ]
    ),
    "laguna": Sequence([split(r"[^\n]+|[\n]+"), split(QWEN2)]),
}
# What patterns tell apart, and any assigned character up to Unicode 13, which both engines know.
WORDS = st.sampled_from(["'s", "'LL", "don't", "x", " x", "Aa", "aA", "É", "Dž", "ʰ", "中", "한", "ひ"])
SYMBOLS = st.sampled_from(["1", "1234567", "²", "Ⅷ", "٣", "!", "...", "$", "<", "_", "/", "😀"])
SPACES = st.sampled_from([" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u0301", "e\u0301", "\u200d"])
TEXTS = st.lists(WORDS | SYMBOLS | SPACES | st.characters(exclude_categories=("Cs", "Cn", "Co")), max_size=20).map(
    "".join
)


@pytest.mark.parametrize("name", PUBLISHED)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_words_equal_those_of_the_published_pattern(name, text):
    words = PRE_TOKENIZERS[name].compile().split(text)

    assert words == [word for word, _ in PUBLISHED[name].pre_tokenize_str(text)]


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@settings(max_examples=20, deadline=None)
@given(text=TEXTS)
def test_words_joined_are_the_text(name, text):
    assert "".join(PRE_TOKENIZERS[name].compile().split(text)) == text


def test_digits_are_grouped_from_their_end():
    grouped = {name: PRE_TOKENIZERS[name].compile().split("x1234567") for name in ("tiny_aya", "afmoe", "superbpe")}
    assert all(words == ["x", "1", "234", "567"] for words in grouped.values()), grouped
    assert PRE_TOKENIZERS["tiny_aya"].compile().split("1234567x") == ["123", "456", "7", "x"], "no word ends there"


def test_names_decide_more_than_patterns():
    whole = {name for name, pre in PRE_TOKENIZERS.items() if pre.whole_words}
    assert {"llama-bpe", "tekken", "minicpm5", "youtu", "granite-embed-multi-97m"} <= whole
    assert not whole & {"qwen2", "gpt-2", "gpt-4o", "laguna", "afmoe"}
    begins = {name for name, pre in PRE_TOKENIZERS.items() if pre.add_bos}
    assert {"llama-bpe", "tekken", "chameleon"} <= begins
    assert not begins & {"minicpm5", "youtu", "granite-embed-multi-97m", "qwen2"}
