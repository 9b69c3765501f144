"""How a refusal names what is allowed: a short list whole, of a long one the closest."""

from collections.abc import Iterable
from typing import Any

SHOWN = 24  # values; and CHARACTERS of them, whatever comes first
CHARACTERS = 600
_CLOSEST = 3


def one_of(value: Any, allowed: Iterable[Any], subject: str = "This") -> str:
    """A sentence that names what may stand in the place of `value`."""
    words = [str(each) for each in allowed]
    if not words:
        return f"{subject} may not be given: nothing is allowed here."
    close = closest(value, words)
    if len(words) <= SHOWN and sum(map(len, words)) <= CHARACTERS:
        hint = f" Did you mean {close[0]}?" if close and len(words) > 3 else ""
        return f"{subject} must be one of: {', '.join(words)}.{hint}"
    if close:
        return f"{subject} must be one of {len(words)} values; the closest are: {', '.join(close)}."
    return (
        f"{subject} must be one of {len(words)} values, such as: {', '.join(words[: SHOWN // 2])}."
    )


def closest(value: Any, words: list[str]) -> list[str]:
    """The few words that are most like a value, the best first; none where nothing is like it."""
    from difflib import get_close_matches  # a tenth of a millisecond for a list of a hundred words

    text = str(value)[:100].strip().lower() if isinstance(value, str) else ""
    lower: dict[str, str] = {}
    for word in words:
        lower.setdefault(word.lower(), word)
    return [lower[each] for each in get_close_matches(text, lower, _CLOSEST, 0.6)]
