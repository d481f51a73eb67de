r"""The formats that JSON Schema defines, as patterns of whole texts.

Each follows its RFC, so that no text is accepted that a checker refuses; of leap seconds, only those of UTC's own time
are known. INEXACT lists the formats of which a pattern does not say all.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

from pyinfer.errors import ParameterError
from pyinfer.guides.grammar.ecma import Pattern, matches, parse_ecma
from pyinfer.guides.grammar.outcomes import NotExact

# RFC 3339; years begin with 0001, as datetime has them
YEAR = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"  # 2000, not 1900
DATE = (
    rf"(?:{YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    rf"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|{LEAP_YEAR}-02-29)"
)
HOURS = "(?:[01][0-9]|2[0-3])"
TIME = (
    rf"(?:{HOURS}:[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?(?:[Zz]|[+-]{HOURS}:[0-5][0-9])"
    r"|23:59:60(?:\.[0-9]+)?(?:[Zz]|[+-]00:00))"
)
TIME_SPAN = "T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"
DAYS = "(?:[0-9]+D|[0-9]+M(?:[0-9]+D)?|[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?)"
DURATION = f"P(?:{DAYS}(?:{TIME_SPAN})?|{TIME_SPAN}|[0-9]+W)"

# RFC 1123; "--" after two characters is kept for encoded names, which not all texts are
EDGE, INNER = "[A-Za-z0-9]", "[A-Za-z0-9-]"
LABEL = (
    f"{EDGE}(?:{EDGE}|{INNER}{EDGE}|{INNER}(?:{EDGE}|-){EDGE}|{INNER}(?:{EDGE}{INNER}|-{EDGE}){INNER}{{0,58}}{EDGE})?"
)
HOSTNAME = rf"{LABEL}(?:\.{LABEL})*"

OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
IPV4 = rf"{OCTET}(?:\.{OCTET}){{3}}"
GROUP = "[0-9A-Fa-f]{1,4}"
LAST_GROUPS = f"(?:{GROUP}:{GROUP}|{IPV4})"
IPV6 = "(?:{})".format(
    "|".join(
        [f"(?:{GROUP}:){{6}}{LAST_GROUPS}", f"::(?:{GROUP}:){{5}}{LAST_GROUPS}"]
        + [f"(?:(?:{GROUP}:){{0,{n}}}{GROUP})?::(?:{GROUP}:){{{4 - n}}}{LAST_GROUPS}" for n in range(5)]
        + [f"(?:(?:{GROUP}:){{0,5}}{GROUP})?::{GROUP}", f"(?:(?:{GROUP}:){{0,6}}{GROUP})?::"]
    )
)

# RFC 5321; the part before "@" has at most 64 characters
ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
IDN_ATOM = r"\u{A0}-\u{D7FF}\u{F900}-\u{FFEF}\u{10000}-\u{3FFFD}"
ADDRESS = rf"(?:{HOSTNAME}|\[(?:{IPV4}|IPv6:{IPV6})\])"

# RFC 3986 and, with more characters, RFC 3987
FURTHER = r"\u{A0}-\u{D7FF}\u{F900}-\u{FDCF}\u{FDF0}-\u{FFEF}" + "".join(
    rf"\u{{{plane:X}{'1000' if plane == 14 else '0000'}}}-\u{{{plane:X}FFFD}}" for plane in range(1, 15)
)
PRIVATE = r"\u{E000}-\u{F8FF}\u{F0000}-\u{FFFFD}\u{100000}-\u{10FFFD}"
ESCAPED = "%[0-9A-Fa-f]{2}"


def _email(further: str, address: str) -> str:
    atom = ATOM.replace("[", "[" + further, 1)
    local = rf"(?:{atom}+(?:\.{atom}+)*|{QUOTED})"
    return f'(?=[^@]{{1,64}}@|"){local}@{address}'


def _uri(further: str, private: str, relative: bool) -> str:
    plain = rf"A-Za-z0-9._~!$&'()*+,;=\-{further}"
    character = f"(?:[{plain}:@]|{ESCAPED})"
    literal = rf"\[(?:{IPV6}|[Vv][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:\-]+)\]"
    authority = f"(?:(?:[{plain}:]|{ESCAPED})*@)?(?:{literal}|(?:[{plain}]|{ESCAPED})*)(?::[0-9]*)?"
    segments = f"(?:/{character}*)*"
    absolute = f"//{authority}{segments}|/(?:{character}+{segments})?"
    more = rf"(?:\?(?:[{plain}:@/?{private}]|{ESCAPED})*)?(?:#(?:[{plain}:@/?]|{ESCAPED})*)?"
    whole = rf"[A-Za-z][A-Za-z0-9+.\-]*:(?:{absolute}|{character}+{segments}|)"
    if relative:
        whole = f"(?:{whole}|{absolute}|(?:[{plain}@]|{ESCAPED})+{segments}|)"
    return whole + more


VARIABLE = rf"(?:[A-Za-z0-9_]|{ESCAPED})(?:\.?(?:[A-Za-z0-9_]|{ESCAPED}))*(?::[1-9][0-9]{{0,3}}|\*)?"
TEMPLATE = (  # RFC 6570
    rf"(?:[!#$&(-;=?-\[\]_a-z~{FURTHER}{PRIVATE}]|{ESCAPED}"
    rf"|\{{[+#./;?&=,!@|]?{VARIABLE}(?:,{VARIABLE})*\}})*"
)
POINTER = "(?:/(?:[^/~]|~[01])*)*"  # RFC 6901


@lru_cache(maxsize=1)
def _names() -> str:
    """Letters of names that are not ASCII: IDNA's, of scripts that are written from left to right."""
    ranges: list[list[int]] = []
    for code in range(0x80, 0x30000):
        char = chr(code)
        if unicodedata.category(char) not in ("Ll", "Lo") or unicodedata.bidirectional(char) != "L":
            continue
        old_hangul = 0x1100 <= code < 0x1200 or 0xA960 <= code < 0xA980 or 0xD7B0 <= code < 0xD800
        if old_hangul or unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", char).casefold()) != char:
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(rf"\u{{{low:X}}}-\u{{{high:X}}}" for low, high in ranges)


def _idn_hostname() -> str:
    letters = f"[A-Za-z0-9{_names()}]+"
    label = f"{letters}(?:-{letters})*"
    return rf"{label}(?:\.{label})*"


SHORT = "(?=[^]{1,253}$)"  # a host name

# The sources of patterns; those that take a while to make are made when they are used.
SOURCES: dict[str, Callable[[], str]] = {
    "date-time": lambda: f"{DATE}[Tt]{TIME}",
    "date": lambda: DATE,
    "time": lambda: TIME,
    "duration": lambda: DURATION,
    "email": lambda: _email("", ADDRESS),
    "idn-email": lambda: _email(IDN_ATOM, f"(?:{_idn_hostname()}|{ADDRESS})"),
    "hostname": lambda: SHORT + HOSTNAME,
    "idn-hostname": lambda: SHORT + _idn_hostname(),
    "ipv4": lambda: IPV4,
    "ipv6": lambda: IPV6,
    "uri": lambda: _uri("", "", relative=False),
    "uri-reference": lambda: _uri("", "", relative=True),
    "iri": lambda: _uri(FURTHER, PRIVATE, relative=False),
    "iri-reference": lambda: _uri(FURTHER, PRIVATE, relative=True),
    "uuid": lambda: "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    "uri-template": lambda: TEMPLATE,
    "json-pointer": lambda: POINTER,
    "relative-json-pointer": lambda: f"(?:0|[1-9][0-9]*)(?:#|{POINTER})",
    "regex": lambda: "[^]*",
}
FORMATS = frozenset(SOURCES)
INEXACT = {  # of which some texts are accepted that are none, and why
    "idn-hostname": "the lengths of encoded names are not checked",
    "idn-email": "the lengths of encoded names are not checked",
    "regex": "any text is accepted",
}


def format_pattern(name: str) -> Pattern:
    """The pattern of a format of FORMATS."""
    return parse_ecma(f"^(?:{SOURCES[name]()})$")


def format_matches(name: str, text: str) -> bool:
    """Whether a text has a format of FORMATS."""
    if name == "regex":
        with suppress(NotExact):
            try:
                parse_ecma(text)
            except ParameterError:
                return False
        return True
    return matches(format_pattern(name), text)
