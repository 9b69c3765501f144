"""Package ids and names that are easily taken for another one: what a reviewer should look at twice.

Package ids are lower-case ASCII letters, digits and dots, so the confusable characters are few; see
Unicode Technical Standard 39, section 4, for the method.
"""

import unicodedata

from mosis.database import Connection

LEAST = 8  # characters: of two short ids many differ in one
_ALIKE = str.maketrans({"0": "o", "1": "l", "i": "l", "5": "s", "2": "z", "8": "b", "9": "g"})
_PAIRS = (("rn", "m"), ("vv", "w"), ("cl", "d"), ("nn", "m"))
# Cyrillic and Greek letters that look like Latin ones (confusables.txt of UTS 39). Capitals first: the
# small letters of some look like others.
_CAPITALS = str.maketrans(
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0406\u0408\u0405"
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
    "ABEKMHOPCTYXIJSABEZHIKMNOPTYX",
)
_LETTERS = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u051b\u03b1\u03b9\u03bd\u03bf\u03c1\u03c5\u0131",
    "aeopcyxijsdqaivopui",
)


def find(db: Connection, package_id: str, developer_id: str) -> str | None:
    """A published package id of another account that this one is easily taken for; None if there is
    none. Reads the ids of similar length: a tenth of a second with 100,000 published apps."""
    sql = (
        "SELECT package_id FROM apps WHERE published = 1 AND developer_id <> ? AND package_id <> ?"
        " AND length(package_id) BETWEEN ? AND ? ORDER BY package_id"
    )
    rows = db.all(sql, developer_id, package_id, len(package_id) - 3, len(package_id) + 3)
    wanted = skeleton(package_id)
    for (other,) in rows:
        if skeleton(other) == wanted or (
            min(len(other), len(package_id)) >= LEAST and is_one_edit(other, package_id)
        ):
            return str(other)
    return None


def find_name(db: Connection, name: str, developer_id: str) -> str | None:
    """The package id of a published app of another account whose name this one is easily taken for;
    None if there is none. A name that is the same but for case, accents, spaces and punctuation is."""
    wanted = name_skeleton(name)
    sql = (
        "SELECT package_id, name FROM apps WHERE published = 1 AND developer_id <> ?"
        " AND length(name) BETWEEN ? AND ? ORDER BY package_id"
    )
    rows = db.all(sql, developer_id, len(name) // 2 - 3, 2 * len(name) + 3)
    return next((str(other) for other, its in rows if name_skeleton(its) == wanted), None)


def find_developer(db: Connection, name: str, developer_id: str) -> str | None:
    """The name of another account with published apps that this one is easily taken for; None if
    there is none."""
    wanted = name_skeleton(name)
    sql = (
        "SELECT name FROM developers d WHERE id <> ? AND erased_at IS NULL AND length(name) BETWEEN ? AND ?"
        " AND EXISTS (SELECT 1 FROM apps WHERE developer_id = d.id AND published = 1) ORDER BY id"
    )
    rows = db.all(sql, developer_id, len(name) // 2 - 3, 2 * len(name) + 3)
    return next((str(other) for (other,) in rows if name_skeleton(other) == wanted), None)


def name_skeleton(name: str) -> str:
    """The same text for names that look the same: `B\u0430nk of X` (with a Cyrillic letter) and `bank-of-x`."""
    folded = unicodedata.normalize("NFKD", name).translate(_CAPITALS).casefold().translate(_LETTERS)
    letters = "".join(each for each in folded if each.isalnum())
    return skeleton(letters) or folded


def skeleton(package_id: str) -> str:
    """The same text for ids that look the same: `paypal` and `paypa1`, `modern` and `modem`."""
    found = package_id.translate(_ALIKE).replace(".", "")
    for pair, letter in _PAIRS:
        found = found.replace(pair, letter)
    return found


def is_one_edit(one: str, other: str) -> bool:
    """Whether one becomes the other by one letter more, less or other, or by two that change places."""
    if abs(len(one) - len(other)) > 1 or one == other:
        return False
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    rest, other_rest = one[start:], other[start:]
    return (
        rest[1:] == other_rest
        or rest == other_rest[1:]
        or rest[1:] == other_rest[1:]
        or (rest[:2] == other_rest[1::-1] and rest[2:] == other_rest[2:])
    )
