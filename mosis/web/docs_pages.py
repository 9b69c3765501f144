"""Our own documents (docs/*.md) as pages for people: rendered when first asked for, then kept."""

import re
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from mosis import problems
from mosis.errors import NotFound

DOCS = Path(__file__).resolve().parents[2] / "docs"
POLICY = "default-src 'none'; img-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'; style-src 'self'"
STYLES = ("pico.classless.min.css", "portal.css")  # of mosis/ui/assets/


@cache
def names() -> tuple[str, ...]:
    """The documents there are, without their ending."""
    return tuple(sorted(str(path.relative_to(DOCS))[:-3] for path in DOCS.rglob("*.md")))


@cache
def page(name: str) -> bytes:
    """A document as a page. Raises NotFound; only what names() lists is ever opened."""
    if name not in names():
        raise NotFound("document")
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    root = "../" * (name.count("/") + 1)
    return whole(name.rpartition("/")[2], _markdown()(text), root)


@cache
def errors() -> bytes:
    """The page that `type` of a problem points into: every code under its own anchor, with the sentence of docs/API.md."""
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
    return whole("Error codes", "\n".join(parts))


def whole(title: str, body: str, root: str = "../") -> bytes:
    """A page around some HTML; `root` leads from there to where /docs is."""
    links = "".join(
        f'<li><a href="{root}docs/{name}">{name}</a></li>' for name in names() if "/" not in name
    )
    styles = "".join(f'<link rel="stylesheet" href="{root}ui/{name}">\n' for name in STYLES)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{escape(title)} - mosis-portal</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{styles}<link rel="icon" href="{root}ui/icon.svg" type="image/svg+xml">
</head>
<body>
<header class="top"><nav aria-label="Documents">
<a class="brand" href="{root}"><img src="{root}ui/icon.svg" alt="" width="28" height="28">Mosis apps</a>
<ul><li><a href="{root}docs">All calls</a></li><li><a href="{root}docs/errors">Error codes</a></li>{links}</ul>
</nav></header>
<main id="main" class="doc">
{body}
</main>
</body>
</html>
""".encode()


@cache
def _markdown() -> Any:
    """Markdown to HTML, with the anchors that the documents' own links count on; HTML in it is shown, not passed through."""
    import mistune

    class Renderer(mistune.HTMLRenderer):
        def heading(self, text: str, level: int, **_attributes: Any) -> str:
            words = re.sub(r"<[^>]*>", "", text).lower()
            anchor = re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
            return f'<h{level} id="{anchor}">{text}</h{level}>\n'

        def link(self, text: str, url: str, title: str | None = None) -> str:
            document, mark, anchor = url.partition("#")
            if document.endswith(".md") and "://" not in document:
                document = document[:-3]
            elif document.startswith(".."):
                return text  # a file of the source, which is not served
            return str(super().link(text, document + mark + anchor, title))

        # What scrolls sideways can be reached and scrolled with the keyboard.
        def block_code(self, code: str, info: str | None = None) -> str:
            return str(super().block_code(code, info)).replace("<pre>", '<pre tabindex="0">', 1)

    renderer = Renderer(escape=True)
    made = mistune.create_markdown(
        escape=True, renderer=renderer, plugins=["table", "strikethrough"]
    )
    renderer.register("table", lambda _, text: f'<table tabindex="0">\n{text}</table>\n')
    return made
