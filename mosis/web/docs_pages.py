"""Our own documents (docs/*.md) as pages for people: rendered when first asked for, then kept."""

import hashlib
import re
from base64 import b64encode
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from mosis import problems
from mosis.errors import NotFound

DOCS = Path(__file__).resolve().parents[2] / "docs"
STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
nav { border-bottom: 1px solid #ccc; padding-bottom: .5rem; display: flex; flex-wrap: wrap; gap: .2rem 1rem; }
pre, code { font: 14px/1.45 ui-monospace, monospace; background: #f4f4f4; } pre { padding: .8rem; overflow-x: auto; }
body { overflow-wrap: break-word; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top; }
:target { background: #fff3c4; }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #16181d; } a { color: #8ab4f8; } pre, code { background: #23262d; }
  th, td { border-color: #444; } :target { background: #4a3f10; }
}
"""
POLICY = (
    "default-src 'none'; img-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'; style-src 'sha256-"
    + b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'"
)


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
        f'<a href="{root}docs/{name}">{name}</a>' for name in names() if "/" not in name
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)} - mosis-portal</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{STYLE}</style>\n</head>\n<body>\n'
        f'<nav><a href="{root}docs">All calls</a><a href="{root}docs/errors">Error codes</a>{links}</nav>\n{body}'
        "\n</body>\n</html>\n"
    ).encode()


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

    return mistune.create_markdown(
        escape=True, renderer=Renderer(escape=True), plugins=["table", "strikethrough"]
    )
