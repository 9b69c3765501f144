"""Measures the time from the first byte of an upload until a device sees the version, with the policy `changes`.

    python -m bench.visible --versions 30

A real portal, a package of 1 MiB (pictures, scripts, style sheets), `?submit=true&publish=true`; the store is asked every few
milliseconds. Also: the memory of the portal before and after.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import portal
from bench.kill import call
from mosis.packages.build import png
from tests.package_builder import build_package, signing_key
from tests.server import Running, running

PACKAGE_BYTES = 1 << 20


def files(number: int) -> dict[str, bytes]:
    """What makes a package of about 1 MiB that changes with every version."""
    noise = random.Random(number)
    sheet = b"".join(
        b".c%d { color: #%06x; }\n" % (each, noise.randrange(1 << 24)) for each in range(300)
    )
    script = b"".join(
        b"local v%d = mosis.storage.get('%x')\n" % (each, noise.randrange(1 << 40))
        for each in range(180)
    )
    wave = noise.randbytes(PACKAGE_BYTES - 30_000)
    sound = (
        b"WAVEfmt \x10\x00\x00\x00" + bytes(16) + b"data" + len(wave).to_bytes(4, "little") + wave
    )
    return {
        "assets/main.rcss": sheet,
        "assets/main.lua": script,
        "assets/a.png": png(200),
        "assets/a.wav": b"RIFF" + len(sound).to_bytes(4, "little") + sound,
    }


def resident_bytes(server: Running) -> int:
    """What the portal's process itself takes (PSS)."""
    text = Path(f"/proc/{server.pid}/smaps_rollup").read_text()
    return next(
        int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")
    )


def signed_in(server: Running, name: str) -> str:
    account = {"email": f"{name}@example.net", "password": "three random words", "name": name}
    return str(
        call(server.port, "POST", "/v1/auth/register", json.dumps(account).encode())[1][
            "access_token"
        ]
    )


def measure(folder: Path, count: int) -> dict[str, Any]:
    """The figures over so many versions."""
    key = signing_key()
    with running(folder, {"REVIEW_POLICY": "changes", "REVIEW_SAMPLE_PERCENT": "0"}) as server:
        dev, rev = signed_in(server, "dev"), signed_in(server, "rev")
        promote = [
            sys.executable,
            str(portal.HERE / "portal.py"),
            "admin",
            "promote",
            "rev@example.net",
            "--role",
            "reviewer",
        ]
        subprocess.run(
            promote, env=server.environment, check=True, stdout=subprocess.DEVNULL, timeout=30
        )
        key_of = json.dumps({"name": "k", "public_key": key.public_base64}).encode()
        assert call(server.port, "POST", "/v1/signing-keys", key_of, dev)[0] == 201
        assert (
            call(
                server.port, "POST", "/v1/apps", b'{"package_id": "be.seen", "name": "Seen"}', dev
            )[0]
            == 201
        )
        taken: list[float] = []
        for code in range(1, count + 2):
            package = build_package("be.seen", f"1.0.{code}", code, key=key, files=files(code))
            begun = time.perf_counter()
            status, answer = call(
                server.port,
                "POST",
                "/v1/apps/be.seen/versions?submit=true&publish=true",
                package,
                dev,
            )
            assert status == 201, answer
            if code == 1:
                approve_first(server, rev)
            while (
                call(server.port, "GET", "/v1/store/apps/be.seen", b"")[1].get("version")
                != f"1.0.{code}"
            ):
                assert time.perf_counter() < begun + 30, call(
                    server.port, "GET", f"/v1/apps/be.seen/versions/1.0.{code}", b"", dev
                )
                time.sleep(0.005)
            taken.append(time.perf_counter() - begun)
            if code == 1:
                before = resident_bytes(server)
        after = resident_bytes(server)
    seen = sorted(taken[1:])
    return {
        "package_bytes": len(package),
        "versions": count,
        "p50_seconds": round(seen[count // 2], 3),
        "p95_seconds": round(seen[count * 95 // 100], 3),
        "longest_seconds": round(seen[-1], 3),
        "memory_mib_before": round(before / 2**20, 1),
        "memory_mib_after": round(after / 2**20, 1),
    }


def approve_first(server: Running, reviewer: str) -> None:
    """The first version needs a reviewer."""
    for _ in range(600):
        waiting = call(server.port, "GET", "/v1/reviews", b"", reviewer)[1]["reviews"]
        if waiting:
            assert (
                call(
                    server.port, "POST", f"/v1/reviews/{waiting[0]['id']}/approve", b"{}", reviewer
                )[0]
                == 200
            )
            return
        time.sleep(0.05)
    raise AssertionError("the first version did not get into the queue")


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--versions", type=int, default=30)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="visible-") as folder:
        json.dump(measure(Path(folder), given.versions), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
