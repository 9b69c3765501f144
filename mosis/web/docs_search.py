"""Full-text search in the documents: every word in one section; the index is built once."""

import re
from functools import cache

from bottle import html_escape as escape

from mosis.records import dataclass
from mosis.web import docs_pages

QUERY_CHARACTERS = 100
MOST_WORDS = 8
MOST_HITS = 20
EXCERPT_CHARACTERS = 200
_HEADING = re.compile(r"^(#{1,3}) (.+)$")


@dataclass(frozen=True)
class Section:
    """A part of a document under one heading."""

    document: str
    heading: str
    anchor: str
    text: str
    lower: str
    lower_heading: str


@dataclass(frozen=True)
class Hit:
    """A section in the result. `excerpt_html` has the words marked."""

    document: str
    heading: str
    anchor: str
    excerpt_html: str


def search(query: str) -> list[Hit]:
    """Sections with every word of the query, best first: words in headings count most, then their
    frequency in relation to the length of the section."""
    words = query[:QUERY_CHARACTERS].lower().split()[:MOST_WORDS]
    if not words:
        return []
    found = []
    for order, section in enumerate(_sections()):
        if all(word in section.lower for word in words):
            in_heading = sum(word in section.lower_heading for word in words)
            often = sum(section.lower.count(word) for word in words) / (200 + len(section.lower))
            found.append((-in_heading, "/" in section.document, -often, order, section))
    return [
        Hit(each.document, each.heading, each.anchor, _excerpt(each, words))
        for *_, each in sorted(found, key=lambda row: row[:4])[:MOST_HITS]
    ]


def page(query: str, store: str) -> bytes:
    """The page with the sections that have every word of the query."""
    found = search(query)
    parts = [f"<h1>Search</h1>\n{_form(query)}"]
    if query.strip():
        parts.append(f"<p>{len(found) or 'No'} section(s) found.</p>")
    for hit in found:
        heading = " - ".join(dict.fromkeys((docs_pages.title(hit.document), hit.heading)))
        address = escape(f"{hit.document}#{hit.anchor}")
        parts.append(
            f'<h2><a href="{address}">{escape(heading)}</a></h2>\n<p>{hit.excerpt_html}</p>'
        )
    return docs_pages.whole("Search", "\n".join(parts), store)


def _form(query: str) -> str:
    return (
        '<form role="search" action="search"><input type="search" name="q" aria-label="Words"'
        f' maxlength="{QUERY_CHARACTERS}" value="{escape(query)}"><button>Search</button></form>'
    )


@cache
def _sections() -> tuple[Section, ...]:
    found = []
    for document in docs_pages.names():
        heading, is_code = docs_pages.title(document), False
        lines: list[str] = []
        for line in docs_pages.text_of(document).splitlines():
            is_code ^= line.startswith("```")
            begins = None if is_code else _HEADING.match(line)
            if begins:
                found.append(_section(document, heading, lines))
                heading, lines = begins[2], []
            else:
                lines.append(line)
        found.append(_section(document, heading, lines))
    return tuple(section for section in found if section.text)


def _section(document: str, heading: str, lines: list[str]) -> Section:
    plain = heading.replace("`", "")
    text = re.sub(r"\]\([^)]*\)", "", "\n".join(lines))  # targets of links are not indexed
    text = " ".join(re.sub(r"[`*|\[]|^[-:| ]+$", " ", text, flags=re.MULTILINE).split())
    return Section(
        document, plain, docs_pages.anchor(plain), text, f"{plain} {text}".lower(), plain.lower()
    )


def _excerpt(section: Section, words: list[str]) -> str:
    """The text around the first matching word, with all words marked."""
    lower = section.text.lower()
    places = [lower.find(word) for word in words if word in lower]
    start = max(0, min(places, default=0) - EXCERPT_CHARACTERS // 4)
    start = section.text.rfind(" ", 0, start) + 1
    shown = section.text[start : start + EXCERPT_CHARACTERS]
    pattern = re.compile(
        "|".join(map(re.escape, sorted(words, key=len, reverse=True))), re.IGNORECASE
    )
    marked, at = [], 0
    for found in pattern.finditer(shown):
        marked += [escape(shown[at : found.start()]), f"<mark>{escape(found[0])}</mark>"]
        at = found.end()
    return ("… " if start else "") + "".join([*marked, escape(shown[at:])]) + " …"
