"""The formats of JSON Schema: texts that have them, and texts that nearly do."""

import pytest

from pyinfer.guides.grammar.formats import FORMATS, INEXACT, format_matches
from pyinfer.guides.grammar.strings import string_terminal

EXAMPLES = {
    "date": (
        ["2000-02-29", "2024-02-29", "1999-12-31", "0001-01-01"],
        ["1900-02-29", "2023-02-29", "2023-04-31", "2023-13-01", "2023-00-10", "2023-1-1", "23-01-01", "0000-01-01"],
    ),
    "time": (
        ["00:00:00Z", "23:59:59.123+05:30", "23:59:60Z"],
        ["24:00:00Z", "12:60:00Z", "12:00:60Z", "12:00:00", "12:00:00+24:00", "12:00Z"],
    ),
    "date-time": (
        ["2024-02-29T12:30:00Z", "1985-04-12t23:20:50.52z", "1990-12-31T15:59:50-08:00"],
        ["2023-02-29T12:30:00Z", "2024-02-29 12:30:00Z", "2024-02-29T12:30:00", "2024-02-29"],
    ),
    "duration": (
        ["P4DT12H30M5S", "P4Y", "PT0S", "P1M", "PT36H", "P2W"],
        ["PT1D", "4DT12H", "P", "P1YT", "P2D1Y", "P1Y2W", "P1", "P-1D"],
    ),
    "email": (
        ["a@b.org", "joe.bloggs+x@sub.example.com", '"joe bloggs"@example.com', "joe@[127.0.0.1]", "te~st@example.com"],
        ["2962", ".test@example.com", "test.@example.com", "te..st@example.com", "a@b..c", "a" * 65 + "@b.org"],
    ),
    "idn-email": (["실례@실례.테스트", "a@b.org"], ["2962", "@"]),
    "hostname": (
        ["www.example.com", "a", "a1-b", "1host", "a" * 63 + ".com"],
        ["-a", "a-", "a_b", "a..b", "", "a" * 64 + ".com", "xn--x", ".".join(["a" * 60] * 5)],
    ),
    "idn-hostname": (["실례.테스트", "example.com"], ["-a", "〮실례", "a_b", "", "ab\u2024c"]),
    "ipv4": (
        ["192.168.0.1", "0.0.0.0", "255.255.255.255"],
        ["256.0.0.1", "1.2.3", "087.10.0.1", "1.2.3.4.5", "1.2.3.4/8"],
    ),
    "ipv6": (
        ["::", "::1", "1:2:3:4:5:6:7:8", "::ffff:192.168.0.1", "1::2", "fe80::a", "::42:ff:1", "1:2:3:4:5:6:7::"],
        ["12345::", ":2:3:4", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::1%eth0", "1:2:3:4:1.2.3", "::laptop"],
    ),
    "uri": (
        ["http://a.b/c?d=e#f", "urn:isbn:123", "mailto:a@b.org", "http://[::1]:80/", "ftp://u:p@h/%20", "tel:+1-2"],
        [
            "//a.b/c",
            "/a",
            "a b",
            "http:// a",
            "http://a/\\",
            "http://a/<b>",
            "http://[::1/",
            "1http://a",
            "http://a/%2",
        ],
    ),
    "uri-reference": (["/a/b", "a", "#x", "", "?q", "//a.b/c", "http://a.b"], ["\\\\a", "a b", "#a\\b", "1:2"]),
    "iri": (["http://ƒøø.ßår/?∂éœ=πîx", "http://a.b"], ["/ä", "http://a b", "\\"]),
    "iri-reference": (["/ä", "âππ", "#ƒ"], ["\\\\WINDOWS", "#ƒräg\\mênt"]),
    "uuid": (
        ["2EB8AA08-AA98-11EA-B4AA-73B441D16380", "00000000-0000-0000-0000-000000000000"],
        ["2eb8aa08aa9811eab4aa73b441d16380", "2eb8aa08-aa98-11ea-b4ga-73b441d16380", "2eb8-"],
    ),
    "uri-template": (["http://a/{term:1}/{+x,y*}", "a{?q}", ""], ["http://a/{term", "a}", "a{}", "a b"]),
    "json-pointer": (["", "/", "/a~0b/~1", "/foo//bar", "/ä\n"], ["a", "/~", "/~2", "#/a"]),
    "relative-json-pointer": (["0", "1/a", "12#"], ["/a", "-1/a", "01/a", "0##", ""]),
    "regex": (["^a(b)$", "(a)\\1"], ["(", "*"]),
}


def test_there_are_examples_of_all_formats():
    assert set(EXAMPLES) == FORMATS
    assert set(INEXACT) <= FORMATS


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_format_has_its_texts_and_no_others(name):
    good, bad = EXAMPLES[name]

    assert [text for text in good if not format_matches(name, text)] == []
    assert [text for text in bad if format_matches(name, text)] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_format_is_a_terminal(name):
    assert string_terminal(formats=[name])
