"""The command line as one file (a zipapp, PEP 441), made from the portal's source."""

import hashlib
import io
import json
from functools import lru_cache
from pathlib import Path

import bottle

from mosis.context import Context
from mosis.web.file_response import send_bytes
from mosis.web.schemas import File, operation

HERE = Path(__file__).parents[1]
# The part of the portal's source that the client needs (tests/test_architecture.py: it imports
# nothing else of ours).
ROOMS = ("client", "packages", "validation")
FILES = ("__init__.py", "clock.py", "errors.py", "records.py")
LEFT_OUT = ("packages/storage.py", "packages/bucket_storage.py", "packages/fetches.py")
# Also valid for Python 2, so that an old interpreter prints what is wrong.
START = b"""\
import sys

if sys.version_info < (3, 11):
    sys.exit("mosis needs Python 3.11 or newer; this is %d.%d" % sys.version_info[:2])
from mosis.client.main import main

sys.exit(main())
"""
SHEBANG = b"#!/usr/bin/env python3\n"


def routes(app: bottle.Bottle) -> None:
    app.get("/cli/mosis.pyz", callback=program, scope="public")
    app.get("/cli/mosis.pyz.sha256", callback=checksum, scope="public")


@operation(File("application/vnd.python.zipapp"))
def program(env: Context) -> bottle.HTTPResponse:
    """The command line `mosis` with this portal's address: `python3 mosis.pyz --help`."""
    content = zipapp(env.config.base_url)
    headers = {
        "Content-Type": "application/vnd.python.zipapp",
        "Content-Disposition": 'attachment; filename="mosis.pyz"',
    }
    return send_bytes(content, headers)


@operation(File("text/plain"))
def checksum(env: Context) -> bottle.HTTPResponse:
    """The SHA-256 of the command line, for `sha256sum --check`."""
    digest = hashlib.sha256(zipapp(env.config.base_url)).hexdigest()
    return send_bytes(
        f"{digest}  mosis.pyz\n".encode(), {"Content-Type": "text/plain; charset=utf-8"}
    )


@lru_cache(maxsize=2)
def zipapp(base_url: str) -> bytes:
    """The program for a portal with this address; reproducible from source and address."""
    import zipfile

    files = {
        "__main__.py": START,
        "mosis/client/portal.json": json.dumps({"url": base_url}).encode(),
    }
    for path in sorted(each for room in ROOMS for each in HERE.joinpath(room).rglob("*.py")):
        name = path.relative_to(HERE).as_posix()
        if name not in LEFT_OUT:
            files[f"mosis/{name}"] = path.read_bytes()
    files |= {f"mosis/{name}": HERE.joinpath(name).read_bytes() for name in FILES}
    buffer = io.BytesIO()
    buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            entry.create_system = 3
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
