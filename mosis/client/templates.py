"""The files that `mosis init` writes: an app that passes every check, and workflows."""

import json
import re
import shlex
import struct
import zlib
from typing import Any

IGNORE = """\
# Files that do not belong into the package, as in .gitignore. Names that begin with a dot, META-INF and
# *.mosis are left out anyway.
*.xcf
*.psd
docs/
"""
RML = """\
<rml>
  <head>
    <title>{name}</title>
    <link type="text/rcss" href="styles/main.rcss"/>
    <script src="scripts/main.lua"/>
  </head>
  <body>
    <h1>{name}</h1>
    <p id="greeting">It works.</p>
  </body>
</rml>
"""
RCSS = """\
body {
  font-family: sans-serif;
  font-size: 16dp;
  color: #202124;
  background-color: #ffffff;
  padding: 16dp;
}

h1 {
  font-size: 24dp;
  margin-bottom: 8dp;
}
"""
LUA = """\
-- The app starts here.
local app = {}

function app.greeting(name)
  return "Hello, " .. name .. "."
end

return app
"""
# For GitHub Actions, and for Gitea and Forgejo Actions, which read the same syntax and the `github`
# context. Forgejo gives a build an ID token because of `enable-openid-connect`, a key that GitHub
# refuses; Gitea ignores it, has no ID tokens, and needs the secret MOSIS_TOKEN. The
# client comes from the portal that it publishes to; the checksum beside it detects an incomplete download.
WORKFLOW = """\
# Checks every push, and hands a tagged version to the reviewers.
#
# The build signs in with its ID token, so no API key is stored: make this repository a trusted publisher
# of the app, see {url}/docs/COOKBOOK#a-build-server-without-a-stored-key
#
# Secret of the repository:
#   MOSIS_SIGNING_KEY   mosis keys export
#
# A build server without ID tokens needs another secret, passed on as MOSIS_TOKEN below:
#   mosis tokens create "build server" --scopes apps:read,versions:upload --apps {package_id}
name: mosis
on:
  push:
    branches: ["**"]
    tags: ["v*"]
permissions:
  contents: read
  id-token: write
{more}jobs:
  package:
    runs-on: ubuntu-latest
    env:
      MOSIS_URL: {url}
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - name: Fetch mosis
        run: |
          mkdir -p .mosis && cd .mosis  # names with a dot are not packed
          curl -fsSLO "$MOSIS_URL/cli/mosis.pyz"
          curl -fsSLO "$MOSIS_URL/cli/mosis.pyz.sha256"
          sha256sum --check mosis.pyz.sha256
          python -m pip install --quiet cryptography lupa tinycss2
      - name: Check
        run: {check}
      - name: Publish
        if: startsWith(github.ref, 'refs/tags/v')
        env:
          MOSIS_SIGNING_KEY: ${{{{ secrets.MOSIS_SIGNING_KEY }}}}
{token}        run: {publish}
"""
FOR_FORGEJO = "enable-openid-connect: true\n"
FOR_GITEA = "          MOSIS_TOKEN: ${{ secrets.MOSIS_TOKEN }}\n"
WORKFLOWS = {"github": ".github/workflows/mosis.yml", "gitea": ".gitea/workflows/mosis.yml"}


def slug(text: str) -> str:
    """A text as one segment of a package id: lower-case ASCII letters and digits."""
    return re.sub(r"[^a-z0-9]", "", text.lower())[:60]


def manifest(package_id: str, name: str, author: str, email: str) -> dict[str, Any]:
    """The manifest of a new app."""
    return {
        "id": package_id,
        "name": name,
        "version": "1.0.0",
        "version_code": 1,
        "entry": "assets/main.rml",
        "min_mosis_version": "1.0.0",
        "author": {"name": author, "email": email},
        "description": f"{name} for Mosis.",
        "permissions": [],
        "icons": {size: f"icons/icon-{size}.png" for size in ("32", "64", "128")},
    }


def app(document: dict[str, Any]) -> dict[str, bytes]:
    """The files of a new app by their paths."""
    shown = document["name"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {
        "manifest.json": (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode(),
        "assets/main.rml": RML.format(name=shown).encode(),
        "assets/styles/main.rcss": RCSS.encode(),
        "assets/scripts/main.lua": LUA.encode(),
        **{f"icons/icon-{size}.png": icon(size, document["id"]) for size in (32, 64, 128)},
        ".mosisignore": IGNORE.encode(),
    }


def workflow(kind: str, url: str, package_id: str, folder: str) -> tuple[str, bytes]:
    """The path in the repository and the text of a build server's workflow for a folder."""
    place = shlex.quote(f"./{folder}" if folder.startswith("-") else folder)
    is_gitea = kind == "gitea"
    text = WORKFLOW.format(
        more=FOR_FORGEJO if is_gitea else "",
        token=FOR_GITEA if is_gitea else "",
        url=json.dumps(url),  # a JSON string is a valid YAML scalar, whatever its content
        package_id=package_id,
        check=json.dumps(f"python .mosis/mosis.pyz check {place}"),
        publish=json.dumps(f"python .mosis/mosis.pyz publish {place} --when-approved --no-wait"),
    )
    return WORKFLOWS[kind], text.encode()


def icon(size: int, package_id: str) -> bytes:
    """A PNG of size x size pixels: a disc in a colour derived from the app's id."""
    hue = zlib.crc32(package_id.encode())
    colour = bytes([64 + (hue & 0x7F), 64 + (hue >> 8 & 0x7F), 64 + (hue >> 16 & 0x7F), 255])
    middle, radius = (size - 1) / 2, size * 0.44
    rows = bytearray()
    for y in range(size):
        rows.append(0)  # no filter
        for x in range(size):
            inside = (x - middle) ** 2 + (y - middle) ** 2 <= radius**2
            rows += colour if inside else bytes(4)
    head = struct.pack(">IIBBBBB", size, size, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + _chunk(b"IDAT", zlib.compress(bytes(rows), 9))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
