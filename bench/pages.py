"""What the pages cost: memory, room in the image, and the store front beside the store list.

    python -m bench.pages

The two lists are asked for in turn, a burst of each, on one connection; the ratio is the median over the pairs, so that
other work on the machine counts for both.
"""

import http.client
import io
import json
import re
import sqlite3
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

import portal
from mosis.config import Config
from mosis.context import make_context
from tests.catalogue import add_developer, add_listed
from tests.server import Running

APPS, PAIRS, BURST = 200, 20, 100
HTML = {"Accept": "text/html"}
PASSWORD = "correct horse battery"
IMPORT = """
import re, sys
import portal, mosis.commands.application, mosis.worker
from mosis.config import Config
import mosis.web.accounts, mosis.web.apps, mosis.web.auth, mosis.web.keys, mosis.web.store, mosis.web.versions, mosis.web.webhooks
import mosis.web.telemetry, mosis.web.reviews, mosis.web.admin, mosis.web.backups, mosis.web.docs, mosis.web.oauth, mosis.web.cli
def pss():
    return int(re.search(r"Pss: +(\\d+)", open("/proc/self/smaps_rollup").read())[1])
before = pss()
from mosis.ui import account, account_links, admin, apps, assets, console, device, quality, reviews, sign_in, store
print(pss() - before)
"""


def pss_kib(pid: int) -> int:
    """The proportional set size of a process."""
    found = re.search(r"Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())
    assert found
    return int(found[1])


def imported_kib() -> int:
    """What the modules of the pages add to a process that has those of the API."""
    command = [sys.executable, "-c", IMPORT]
    done = subprocess.run(command, cwd=portal.HERE, capture_output=True, text=True, check=True)
    return int(done.stdout)


def packed_bytes() -> int:
    """The size of mosis/ui in a layer of the image."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for path in sorted((portal.HERE / "mosis/ui").rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.add(path, str(path.relative_to(portal.HERE)))
    return len(target.getvalue())


def get(server: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> bytes:
    server.request("GET", path, headers=headers)
    answer = server.getresponse()
    body = answer.read()
    assert answer.status == 200, (path, answer.status)
    return body


def rendered_kib(running: Running, server: http.client.HTTPConnection) -> int:
    """What every page, shown once, adds to a portal that has answered calls of the API."""
    kind = {"Content-Type": "application/json"}
    account = {"email": "a@example.net", "password": PASSWORD}
    server.request("POST", "/v1/auth/register", json.dumps(account | {"name": "A"}), kind)
    server.getresponse().read()
    server.request("POST", "/v1/auth/login", json.dumps(account), kind)
    token = json.loads(server.getresponse().read())["access_token"]
    with sqlite3.connect(running.folder / "data/portal.db") as db:
        db.execute("UPDATE developers SET role = 'admin' WHERE email = 'a@example.net'")
    # the same by the API first, often enough that every thread has its connection to the database
    for number in range(20):
        for path in ("/v1/store/apps", f"/v1/store/apps/com.acme.app{number}", "/v1/auth/me", "/v1/apps", "/v1/auth/sessions",
                     "/v1/keys", "/v1/signing-keys", "/v1/webhooks", "/v1/notifications"):  # fmt: skip
            get(server, path, {"Authorization": f"Bearer {token}"})
    before = pss_kib(running.pid)
    server.request("GET", "/console/sign-in", headers=HTML)
    answer = server.getresponse()
    cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
    page = answer.read()
    form_token = re.search(rb'name="form_token" value="(\w+)"', page)
    assert form_token
    fields = {"email": "a@example.net", "password": PASSWORD, "form_token": form_token[1].decode()}
    head = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Sec-Fetch-Site": "same-origin",
        "Cookie": cookie,
    }
    server.request("POST", "/console/sign-in", urlencode(fields), head)
    answer = server.getresponse()
    answer.read()
    head = HTML | {"Cookie": (answer.getheader("Set-Cookie") or "").partition(";")[0]}
    listed = re.findall(rb'href="(/app/[\w.]+)"', get(server, "/", HTML))
    for path in [
        "/",
        *(each.decode() for each in listed),
        "/feed.atom",
        "/setup",
        "/console/reset",
        "/console/verify",
    ]:
        get(server, path, HTML)
    for path in (
        "/console/",
        "/console/account",
        "/console/notifications",
        "/console/apps",
        "/console/second-factor",
        "/console/reviews",
        "/console/admin",
        "/console/admin/accounts",
        "/console/admin/apps",
        "/console/admin/audit",
    ):
        get(server, path, head)
    return pss_kib(running.pid) - before


def ratio(server: http.client.HTTPConnection) -> float:
    """How many store fronts are answered in the time of one store list."""

    def burst(path: str, headers: dict[str, str]) -> float:
        begun = time.perf_counter()
        for _ in range(BURST):
            get(server, path, headers)
        return time.perf_counter() - begun

    pairs = [(burst("/v1/store/apps?limit=24", {}), burst("/", HTML)) for _ in range(PAIRS)]
    return statistics.median(of_list / of_page for of_list, of_page in pairs)


def fill(folder: Path) -> None:
    """A catalogue of some apps, as rows."""
    config = Config.read(
        {"DATABASE_PATH": str(folder / "data/portal.db"), "PACKAGES_DIR": str(folder / "packages")}
    )
    portal.migrate_databases(config)
    env = make_context(config)
    with env.db.connection().write() as db:
        developer = add_developer(db)
        for number in range(APPS):
            add_listed(
                db,
                developer,
                f"com.acme.app{number}",
                f"App {number}",
                summary="Small and quick.",
                category="tools",
            )
    env.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        running = Running(Path(folder))
        fill(Path(folder))
        running.start()
        try:
            server = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
            rendered, speed = rendered_kib(running, server), ratio(server)
        finally:
            running.kill()
    imported, packed = imported_kib(), packed_bytes()
    print(
        f"memory: {(imported + rendered) / 1024:.1f} MiB ({imported / 1024:.1f} for the modules, {rendered / 1024:.1f} for templates and what they show)"
    )
    print(f"in the image: {packed / 1000:.0f} kB compressed")
    print(
        f"store front beside the store list, both from the cache: {speed:.2f} times as many a second"
    )


if __name__ == "__main__":
    main()
