"""compose.scale.yaml, service by service: the bucket, the job that makes it, the primary, two front ends and nginx, with the
commands, variables, volumes and dependencies of the file, on its network. SeaweedFS and nginx are those of this machine."""

import hashlib
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

import portal
from mosis import VERSION
from tests import containers
from tests.containers import Container, Image, Project
from tests.seaweed import PROGRAM
from tests.server import wait_until
from tests.test_container import image  # noqa: F401  (a fixture)
from tests.test_cookbook import TOOLS, commands

HERE = portal.HERE
NGINX = "172.30.0.7"  # the sixth container of the file
SECRETS = {
    "BASE_URL": f"http://{NGINX}",
    "FRONT_END_SECRET": "f" * 64,
    "BACKUP_KEY": "b" * 64,
    "AWS_ACCESS_KEY_ID": "a" * 20,
    "AWS_SECRET_ACCESS_KEY": "s" * 64,
}
# What nginx's own image has in /etc/nginx/nginx.conf, but for its user.
CONFIGURATION = """user www-data;
error_log stderr notice;
pid /run/nginx.pid;
events {}
http { include /etc/nginx/mime.types; access_log off; include /etc/nginx/conf.d/*.conf; }
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not containers.IS_POSSIBLE
        or not PROGRAM.exists()
        or not all(map(shutil.which, ("nginx", *TOOLS))),
        reason=f"{containers.MISSING}, weed, nginx, {', '.join(TOOLS)}",
    ),
]


def images(folder: Path, ours: Image) -> Mapping[str, Image]:
    """Ours, and this machine's programs as the images of others: SeaweedFS's own adds sizes of volumes too."""
    configuration = folder / "nginx/etc/nginx/nginx.conf"
    configuration.parent.mkdir(parents=True)
    configuration.write_text(CONFIGURATION)
    (folder / "nginx/etc/nginx/conf.d").mkdir()
    path = {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    sizes = "-volume.max=30 -master.volumeSizeLimitMB=64"
    weed = ["/bin/sh", "-c", f'exec weed -logtostderr=true "$@" {sizes}', "weed"]
    return {
        f"mosis-portal:{VERSION}": ours,
        "chrislusf/seaweedfs:4.48": Image(Path("/"), entrypoint=weed, environment=path),
        "nginx:1.28-alpine": Image(
            Path("/"), entrypoint=["nginx", "-g", "daemon off;"], over=folder / "nginx"
        ),
    }


def ask(address: str, path: str) -> tuple[int, Message, bytes]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.headers, refusal.read()
    except OSError:
        return 0, Message(), b""


def listed(address: str) -> list[dict[str, Any]]:
    status, _, body = ask(address, "/v1/store/apps")
    return list(json.loads(body)["apps"]) if status == 200 else []


def publish(primary: Container, folder: Path) -> None:
    """The cookbook as far as a published app, through nginx; `portal.py` runs in the primary's container."""
    python = folder / "python"
    inside = " ".join(f"'{each}'" for each in primary.exec(*primary.image.entrypoint))
    python.write_text(f'#!/bin/sh\nshift\nexec {inside} "$@"\n')
    python.chmod(0o755)
    script, heading, _ = commands("COOKBOOK.md").partition(
        'curl --fail-with-body -sS "$PORTAL/v1/store/apps?q=notes"'
    )
    assert heading
    home = {"HOME": str(folder / "home"), "TMPDIR": str(folder), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["bash", "--posix", "-c", script],
        cwd=HERE, env=home | {"PORTAL": SECRETS["BASE_URL"], "PYTHON": str(python)},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Published: devices are offered it." in done.stdout


def test_every_service_does_its_part(tmp_path: Path, image: Image) -> None:  # noqa: F811
    shutil.copy(HERE / "compose.scale.yaml", tmp_path)
    shutil.copytree(HERE / "contrib", tmp_path / "contrib")
    tmp_path.joinpath(".env").write_text("".join(f"{k}={v}\n" for k, v in SECRETS.items()))
    project = Project(tmp_path, "compose.scale.yaml", images(tmp_path, image))
    with project.running():
        each = project.containers
        assert set(each) == set(project.services)
        assert each["nginx"].address == NGINX
        wait_until(lambda: ask(NGINX, "/healthz")[0] == 200, "nginx reaches the primary", 60)
        publish(each["portal"], tmp_path)
        for name in ("store-1", "store-2"):
            address = f"{each[name].address}:8080"
            wait_until(lambda at=address: bool(listed(at)), f"{name} shows the app", 60)
            wait_until(lambda at=address: ask(at, "/readyz")[0] == 200, f"{name} is ready", 30)
        for name in ("portal", "store-1", "store-2"):
            assert each[name].is_healthy(), name
            assert containers.capabilities(each[name].pid) == 0
        wait_until(lambda: bool(listed(NGINX)), "nginx shows the app", 90)
        (app,) = listed(NGINX)
        package = f"/v1/store/apps/{app['package_id']}/download"
        for cached in ("MISS", "HIT"):
            status, headers, body = ask(NGINX, package)
            assert status == 200
            assert hashlib.sha256(body).hexdigest() == app["sha256"]
            assert headers["X-Cache"] == cached
        packages = tmp_path / "volumes/portal-packages"
        assert not list(packages.glob("*/*/*/package.mosis")), "they are in the bucket"
        assert each["store-1"].stop() == 0
        assert ask(NGINX, "/v1/store/apps?q=notes")[0] == 200, "the other front end answers"
        assert each["portal"].stop() == 0
        assert ask(NGINX, "/v1/store/apps?q=note")[0] == 200, "and without the primary"
