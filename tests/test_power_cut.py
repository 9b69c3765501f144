"""Cut power under a portal that writes: what was acknowledged is there (bench/power_cut.py says how)."""

import os
import shutil
import subprocess
import sys

import pytest

import portal
from tests.campaign import short_and_full

TOOLS = ("losetup", "mkfs.xfs", "unshare")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0, reason="only root can mount images"),
    pytest.mark.skipif(
        not all(map(shutil.which, TOOLS)), reason=f"one of {', '.join(TOOLS)} is missing"
    ),
]


def campaign(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The campaign as a process of its own, which makes itself a mount namespace."""
    command = [sys.executable, "-m", "bench.power_cut", *arguments, "--seed", "1"]
    return subprocess.run(
        command, cwd=portal.HERE, capture_output=True, text=True, timeout=3600, check=False
    )


@pytest.mark.parametrize("limit", short_and_full(("--cuts", "1"), ("--minutes", "10")))
@pytest.mark.parametrize("inside", ["ext4", pytest.param("btrfs", marks=pytest.mark.campaign)])
def test_nothing_acknowledged_is_lost(inside: str, limit: tuple[str, str]) -> None:
    if shutil.which("mkfs." + inside) is None:
        pytest.skip(f"mkfs.{inside} is missing")
    done = campaign("--inside", inside, *limit)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.campaign
@pytest.mark.parametrize("fault", ["flush", "files"])
def test_a_missing_flush_is_noticed(fault: str) -> None:
    done = campaign("--minutes", "2", "--plant", fault)
    assert done.returncode == 0, done.stdout + done.stderr
