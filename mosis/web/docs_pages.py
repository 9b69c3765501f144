"""The documents in docs/*.md as HTML pages, rendered at first use and then cached."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from bottle import html_escape as escape

from mosis import problems
from mosis.errors import NotFound

DOCS = Path(__file__).resolve().parents[2] / "docs"
POLICY = "default-src 'none'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; style-src 'self'"
GUIDES = ("GETTING-STARTED", "PERMISSIONS", "PUBLISHING", "PACKAGES", "CLI", "COOKBOOK")


@cache
def names() -> tuple[str, ...]:
    """The names of the documents, without extension."""
    return tuple(sorted(str(path.relative_to(DOCS))[:-3] for path in DOCS.rglob("*.md")))


@cache
def title(name: str) -> str:
    """The first heading of a document."""
    found = re.search(r"^# (.+)$", text_of(name), re.MULTILINE)
    return found[1] if found else name


@cache
def text_of(name: str) -> str:
    """The source of a document. Raises NotFound; only files listed by names() are opened."""
    if name not in names():
        raise NotFound("document")
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


@cache
def page(name: str, store: str) -> bytes:
    """A document as a page of the store with this name. Raises NotFound."""
    root = "../" * (name.count("/") + 1)
    return whole(title(name), _markdown()(text_of(name)), store, root)


@cache
def errors(store: str) -> bytes:
    """The page with all error codes, each with its own anchor and the explanation from docs/API.md."""
    text = (
        (DOCS / "API.md")
        .read_text(encoding="utf-8")
        .partition("## Error codes")[2]
        .partition("\n## ")[0]
    )
    meanings = dict(re.findall(r"^\| `(\w+)` \| \d{3} \| (.*) \|$", text, re.MULTILINE))
    parts = ["<h1>Error codes</h1>"]
    for code, (status, title) in problems.PROBLEMS.items():
        parts.append(f'<h2 id="{code}"><code>{code}</code></h2>\n<p>{status} {escape(title)}.</p>')
        parts.append(_markdown()(meanings.get(code, "")))
    return whole("Error codes", "\n".join(parts), store)


def whole(heading: str, body: str, store: str, root: str = "../") -> bytes:
    """A page around HTML content; `root` leads from there to the directory of /docs."""
    ordered = sorted((name for name in names() if "/" not in name), key=_place)
    links = "".join(
        f'<li><a href="{root}docs/{name}">{escape(title(name))}</a></li>' for name in ordered
    )
    further = {"": "All calls", "/errors": "Error codes", "/search": "Search"}
    links += "".join(
        f'<li><a href="{root}docs{name}">{text}</a></li>' for name, text in further.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{escape(heading)} - {escape(store)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="stylesheet" href="{root}ui/portal.css">
<link rel="icon" href="{root}ui/icon.svg" type="image/svg+xml">
</head>
<body>
<header class="top"><nav aria-label="Documents">
<a class="brand" href="{root}"><img src="{root}ui/icon.svg" alt="" width="28" height="28">{escape(store)}</a>
<ul>{links}</ul>
</nav></header>
<main id="main" class="doc">
{body}
</main>
</body>
</html>
""".encode()


def _place(name: str) -> tuple[int, str]:
    """Guides for app developers come first, then the others by name."""
    return (GUIDES.index(name) if name in GUIDES else len(GUIDES), name)


def anchor(heading_html: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    words = re.sub(r"<[^>]*>", "", heading_html).lower()
    return re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")


@cache
def _markdown() -> Any:
    """Markdown to HTML, with anchors for links between documents; HTML in it is escaped."""
    import mistune

    class Renderer(mistune.HTMLRenderer):
        def heading(self, text: str, level: int, **_attributes: Any) -> str:
            return f'<h{level} id="{anchor(text)}">{text}</h{level}>\n'

        def link(self, text: str, url: str, title: str | None = None) -> str:
            document, mark, place = url.partition("#")
            if document.endswith(".md") and "://" not in document:
                document = document[:-3]
            elif document.startswith(".."):
                return text  # a source file, which is not served
            return str(super().link(text, document + mark + place, title))

        # Elements that scroll sideways can be reached and scrolled with the keyboard.
        def block_code(self, code: str, info: str | None = None) -> str:
            return str(super().block_code(code, info)).replace("<pre>", '<pre tabindex="0">', 1)

    renderer = Renderer(escape=True)
    made = mistune.create_markdown(
        escape=True, renderer=renderer, plugins=["table", "strikethrough"]
    )
    renderer.register("table", lambda _, text: f'<table tabindex="0">\n{text}</table>\n')
    return made
