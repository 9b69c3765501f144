"""E-mail and web addresses in requests: regular expressions for schemas, and a normal form."""

import ipaddress
from urllib.parse import urlsplit, urlunsplit

from mosis.validation.names import LINE

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

WHAT_IS_WRONG = {
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
