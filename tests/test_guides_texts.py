"""The fixed texts of a grammar in Lark: found in terminals of every kind."""

from pyinfer.guides.texts import MAX_TEXTS, fixed_texts


def test_fixed_texts_are_found_in_every_kind_of_terminal():
    lark = r"""start: "a\"b" <[7]> /(.|\n)*<\/c>/ [0-9] /x+yz*\x{e9}u\n\.(?:vw|[no\]no])/ "q" /\d\d/
    """
    assert fixed_texts(lark) == [7, "</c>", "éu\n.", "vw", 'a"b']
    assert len(fixed_texts(" ".join(f'"text {i}"' for i in range(99)))) == MAX_TEXTS
