"""Names of accounts, apps, keys and the like, e-mail and web addresses: what they may contain, as
regular expressions for schemas.

Names are shown to others, so a name needs a visible character and must not change how the text
around it is displayed: no control characters, direction overrides or isolates (Unicode Technical
Report 36, section 2.9), no invisible fillers. The joiners U+200C and U+200D are allowed only
between characters beyond ASCII, where Persian, Indic scripts and emoji need them; variation
selectors only after a character that has variants; tags only in a flag.
"""

import ipaddress
import re
from urllib.parse import urlsplit, urlunsplit

_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_DIRECTIONS = r"\u202a-\u202e\u2066-\u2069"
# Default_Ignorable_Code_Point (Unicode 15.1) without joiners, direction marks and variation
# selectors; also the blank Braille pattern, interlinear annotations and noncharacters.
_HIDDEN = (
    r"\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f\u2800\u3164\ufdd0-\ufdef\ufeff\uffa0"
    r"\ufff0-\ufffb\ufffe\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
    r"\U0001fffe\U0001ffff\U0010fffe\U0010ffff"
)
_SELECTORS = r"\ufe00-\ufe0f\U000e0100-\U000e01ef"
_JOINERS = r"\u200c\u200d"
# accents without a letter, direction marks
_MARKS = r"\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f\u200e\u200f\u061c"
# Marks above and below letters: combining diacritics, Hebrew, Arabic, Thai. No language writes five on
# one letter; those that do are for spilling over the lines around them.
_STACKED = (
    r"\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
    r"\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
)
_FEW_MARKS = rf"(?![\s\S]*[{_STACKED}]{{5}})"
_FLAG = r"\U0001f3f4[\U000e0020-\U000e007e]{1,32}\U000e007f"
_CHARACTER = rf"[^{_CONTROLS}{_DIRECTIONS}{_HIDDEN}{_SELECTORS}{_JOINERS}]"
_JOINED = rf"(?<=[^\x00-\x7f])[{_JOINERS}](?=[^\x00-\x7f])|(?<=[^\x00-\x23\x25-\x29\x2b-\x2f\x3a-\x7f])[{_SELECTORS}]"
VISIBLE = rf"[^\s{_CONTROLS}{_DIRECTIONS}{_HIDDEN}{_SELECTORS}{_JOINERS}{_MARKS}]"

_NOT_IN_A_LINE = rf"[{_CONTROLS}{_DIRECTIONS}{_HIDDEN}]"
LINE = rf"{_FEW_MARKS}(?:{_FLAG}|{_CHARACTER}|{_JOINED})*\Z"
NAME = rf"(?=[\s\S]*{VISIBLE}){LINE}"
TAG = rf"(?=[\s\S]*{VISIBLE}){_FEW_MARKS}(?:(?![\s,])(?:{_FLAG}|{_CHARACTER}|{_JOINED}))+\Z"

_LINE = (
    "must not contain control characters, invisible characters, characters that change the direction of the text, or more than"
    " four marks on one letter."
)
WHAT_IS_WRONG = {
    LINE: f"This must be one line and {_LINE}",
    NAME: f"This needs a visible character, and {_LINE}",
    TAG: f"A tag needs a visible character, has no spaces and commas, and {_LINE}",
}


def one_line(text: str) -> str:
    """A text of others as it may stand in a line: without control characters, line separators, changes
    of direction and invisible fillers."""
    return re.sub(_NOT_IN_A_LINE, "", text)


_LINK = r"(?i)://|www\.|[^\s.]\.[^\W\d_]{2,}"


def has_link(text: str) -> bool:
    """Whether a mail program may make a link of a part of this text: an address of the web, or what
    looks like a host name."""
    return bool(re.search(_LINK, text))


_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# An address that every mail server accepts (RFC 5321, 4.1.2, without quoting and address literals),
# and that no mail header reads as a second address, a group or a comment. Other domains are written
# as xn--. Lengths are refused, not looked for: what generates strings from the expression takes the
# content of a lookahead for text.
EMAIL_ADDRESS = rf"(?![^@]{{65}}){_ATOM}(?:\.{_ATOM})*@(?!.{{254}})(?!(?:[^.@]+\.)*[0-9]+$){_LABEL}(?:\.{_LABEL})*\Z"
# Addresses that existing accounts may have: for sign-in, where a stricter rule would lock them out.
KNOWN_EMAIL_ADDRESS = (
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,187}[A-Za-z0-9])?\Z"
)
_PORT = r"(?::(?!0+(?![0-9]))0*(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5]?[0-9]{1,4}))?"
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}"
# What ends in a number is an IPv4 address, or nothing (https://url.spec.whatwg.org/#ends-in-a-number-checker).
_NUMBER_AT_END = r"(?!(?:[A-Za-z0-9-]+\.)*(?:[0-9]+|0[Xx][0-9A-Fa-f]*)\.?(?:[:/?#]|$))"
_NAME = rf"(?=[^:/?#]{{1,254}}(?:[:/?#]|$)){_NUMBER_AT_END}{_LABEL}(?:\.{_LABEL})*\.?"
_HOST = rf"(?:{_IPV4}|{_NAME}|\[[0-9A-Fa-f:.]+\])"
# http or https; no user name (readers mistake it for the host), an ASCII host, and no character
# that a page would have to escape.
WEB_ADDRESS = rf"[Hh][Tt][Tt][Pp][Ss]?://{_HOST}{_PORT}(?:[/?#](?=[^\s<>\"\\^`{{|}}]*$){LINE.removesuffix(chr(92) + 'Z')})?\Z"

WHAT_IS_WRONG |= {
    KNOWN_EMAIL_ADDRESS: "This must be an e-mail address such as alice@example.org.",
    EMAIL_ADDRESS: "This must be an e-mail address such as alice@example.org; write an internationalized domain in its xn-- form.",
    WEB_ADDRESS: "This must be an http or https address without a user name and spaces;"
    " write an internationalized host in its xn-- form.",
}


def normal_web_address(address: str) -> str:
    """The address with scheme and host in lower case (RFC 3986, section 6.2.2.1). Raises ValueError
    for a host in brackets that is not an IPv6 address."""
    parts = urlsplit(address)
    host, _, port = parts.netloc.partition("]") if parts.netloc.startswith("[") else ("", "", "")
    if host:
        netloc = f"[{ipaddress.IPv6Address(host[1:])}]{port}"
    else:
        netloc = parts.netloc.lower()
    return urlunsplit(parts._replace(scheme=parts.scheme.lower(), netloc=netloc))
