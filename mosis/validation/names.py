"""Names of accounts, apps, keys and the like: what they may contain, as regular expressions for
schemas.

Names are shown to others, so a name needs a visible character and must not change how the text
around it is displayed: no control characters, direction overrides or isolates (Unicode Technical
Report 36, section 2.9), no invisible fillers. The joiners U+200C and U+200D are allowed only
between characters beyond ASCII, where Persian, Indic scripts and emoji need them; variation
selectors only after a character that has variants; tags only in a flag.
"""

import re

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

_NOT_IN_A_LINE = re.compile(rf"[{_CONTROLS}{_DIRECTIONS}{_HIDDEN}]")
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
    return _NOT_IN_A_LINE.sub("", text)
