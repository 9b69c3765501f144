"""docs/CACHING.md, docs/SCALING.md and compose.scale.yaml: nginx as a cache and Caddy as a balancer in front of store
front ends, and names and settings that exist."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import portal
from mosis import VERSION
from mosis.config import Config
from mosis.web.answers import default_cache_control
from tests.client import Account, Client
from tests.conftest import FakeClock
from tests.front_ends import SECRET, Pair, ask, paired
from tests.reverse_proxies import caddy, needs, nginx, proxy
from tests.server import free_port

pytestmark = pytest.mark.slow
PAGE = portal.HERE.joinpath("docs/CACHING.md").read_text(encoding="utf-8")
SCALING = portal.HERE.joinpath("docs/SCALING.md").read_text(encoding="utf-8")
NGINX = portal.HERE.joinpath("contrib/nginx-store.conf").read_text(encoding="utf-8")
SCALE = portal.HERE.joinpath("compose.scale.yaml").read_text(encoding="utf-8")


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    return {
        "BACKUPS_DIR": str(tmp_path / "backups"),
        "LISTEN_ADDR": "127.0.0.1:0",
        "FRONT_END_SECRET": SECRET,
        "TRUSTED_PROXY": "127.0.0.1",
    }


@pytest.fixture
def pair(client: Client, alice: Account, tmp_path: Path, clock: FakeClock) -> Iterator[Pair]:
    client.published(alice, "com.acme.notes")
    with paired(client.env, tmp_path / "front", clock) as made:
        made.taken_over()
        yield made


def cache(folder: Path, port: int, primary: int, *front_ends: int) -> list[str]:
    """The command of an nginx with the file of the page, with these ports."""
    text = NGINX.replace("/var/cache/nginx/store", f"{folder}/cache")
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};")
    text = text.replace("portal:8080", f"127.0.0.1:{primary}")
    for number, front_end in enumerate(front_ends, 1):
        text = text.replace(f"store-{number}:8080", f"127.0.0.1:{front_end}")
    return nginx(folder, text)


def package_of(pair: Pair) -> str:
    app, owner = pair.primary.db.connection().one("SELECT id, developer_id FROM apps")
    return f"/packages/{owner}/{app}/1.0.0/package.mosis"


def test_nginx_caches_what_it_may_and_falls_back(pair: Pair, tmp_path: Path) -> None:
    needs("nginx")
    port, dead = free_port(), free_port()
    command = cache(tmp_path, port, pair.primary_port, pair.port, dead)
    package = package_of(pair)
    with proxy(command, tmp_path, port):
        for address in ("/v1/store/apps", package, "/v1/store/updates?pkgs=com.acme.notes:0"):
            first, second = ask(port, address), ask(port, address)
            assert (first[1]["x-cache"], second[1]["x-cache"]) == ("MISS", "HIT"), address
            assert first[2] == second[2] == ask(pair.primary_port, address)[2]
        part = ask(port, package, headers={"Range": "bytes=0-1"})
        assert (part[0], part[1]["x-cache"], part[2]) == (206, "HIT", b"PK")
        packed = ask(port, "/v1/store/apps", headers={"Accept-Encoding": "gzip"})
        assert packed[1].get("content-encoding") in (None, "gzip")
        signed = [ask(port, "/v1/store/index.json.sig") for _ in range(2)]
        assert [each[1]["x-cache"] for each in signed] == ["MISS", "MISS"]
        known = ask(port, "/v1/store/apps", headers={"Authorization": "Bearer x"})
        assert known[1]["x-cache"] == "BYPASS"
        for elsewhere in ("/v1/store/index.json?min_age_days=7", "/", "/docs"):
            assert ask(port, elsewhere)[0] == 200, "a redirect is followed inside"
        body = json.dumps({"pkgs": {"com.acme.notes": 0}}).encode()
        headers = {"Content-Type": "application/json"}
        asked = ask(port, "/v1/store/updates", "POST", body, headers)
        assert (asked[0], asked[1].get("x-cache", "")) == (200, "")
        assert ask(port, "/v1/auth/login", "POST", b"{}", headers)[0] == 422
        pair.server.stop(5)
        pair.thread.join(60)
        for address in ("/v1/store/categories", "/v1/store/apps/com.acme.notes"):
            assert ask(port, address)[0] == 200, "both front ends are gone: the primary answers"


def test_caddy_shares_requests_and_follows_redirects(pair: Pair, tmp_path: Path) -> None:
    needs("caddy")
    found = re.findall(r"```caddy\n(.*?)```", PAGE, re.DOTALL)
    assert len(found) == 1
    port = free_port()
    site = found[0].replace("apps.example.net {", f"http://127.0.0.1:{port} {{", 1)
    for old, new in {8091: pair.port, 8092: free_port(), 8080: pair.primary_port}.items():
        assert f":{old}" in site
        site = site.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    site = site.replace("lb_try_duration 5s", "lb_try_duration 60s")  # on a busy machine
    with proxy(caddy(tmp_path, site), tmp_path, port):
        for _ in range(6):  # one of the two front ends does not respond
            assert ask(port, "/v1/store/apps")[0] == 200
        for address in (package_of(pair), "/v1/store/index.json?min_age_days=7", "/", "/docs"):
            assert ask(port, address)[0] == 200
        counted = pair.front.measures.requests()
        assert any(
            'route="/store/apps"' in str(each) or "/store/apps" in str(each) for each in counted
        )


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(SCALE)["services"]
    return found


def test_every_variable_of_the_compose_file_is_a_setting() -> None:
    known = {*Config.names(), "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    ours = {name: each for name, each in services().items() if "build" in each}
    assert set(ours) == {"portal", "store-1", "store-2"}
    for name, service in ours.items():
        assert service["image"] == f"mosis-portal:{VERSION}"
        assert set(service["environment"]) <= known, name
    named = set(re.findall(r"\$\{(\w+)", SCALE))
    assert named <= known
    intro = SCALE.partition("x-portal:")[0]
    assert all(name in intro for name in named)


def test_each_volume_belongs_to_one_service() -> None:
    mounted = [
        volume.partition(":")[0]
        for service in services().values()
        for volume in service.get("volumes", ())
        if not volume.startswith("./")
    ]
    assert sorted(mounted) == sorted(yaml.safe_load(SCALE)["volumes"])


def test_the_settings_of_a_bucket_on_the_page_are_read() -> None:
    (lines,) = re.findall(r"```ini\n(.*?)```", SCALING, re.DOTALL)
    given = dict(line.split("=", 1) for line in lines.splitlines())
    assert Config.read(given).packages_url == given["PACKAGES_URL"]
    assert set(given) - {"PACKAGES_URL"} == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_the_upstream_of_two_writers_uses_the_one_that_answers(pair: Pair, tmp_path: Path) -> None:
    needs("nginx")
    (upstream,) = re.findall(r"```nginx\n(.*?)```", SCALING, re.DOTALL)
    port = free_port()
    for old, new in {"192.0.2.1:8080": free_port(), "192.0.2.2:8080": pair.primary_port}.items():
        assert old in upstream
        upstream = upstream.replace(old, f"127.0.0.1:{new}")
    site = f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://portal; }} }}"
    with proxy(nginx(tmp_path, upstream + site), tmp_path, port):
        assert ask(port, "/v1/store/apps")[0] == 200


def test_the_lifetimes_on_the_page_are_those_of_the_responses() -> None:
    assert default_cache_control("/store/apps") == (
        "public, max-age=60, stale-while-revalidate=30, stale-if-error=300"
    )
    for text in ("60 seconds, and 30 more", "300 seconds more (`stale-if-error`)", "(`s-maxage`)"):
        assert text in PAGE
