"""waitress's own functional tests, from its source distribution, against our listener, channel and parser."""

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import portal

VERSION = "3.0.2"
CACHE = portal.HERE / ".cache"
# Puts our classes under the names that waitress's tests use. Two things are as waitress has them: errors are plain text (ours are
# held by tests/test_serving.py), and HTTP/1.1 without a Host header is taken, because most of these tests send it.
SHIM = '''
import sys
sys.path.insert(0, {here!r})
from waitress import server
from waitress.task import ErrorTask
from mosis import serving


class Parser(serving.Parser):
    needs_host = False

    def admit(self, method, path, headers):
        return serving.Admission(self.adj.max_request_body_size - 1)


class Channel(serving.Channel):
    parser_class = Parser
    error_task_class = ErrorTask


class Listener(serving.Listener):
    channel_class = Channel


server.TcpWSGIServer = Listener
server.UnixWSGIServer.channel_class = Channel
'''

@pytest.fixture(scope="module")
def sources() -> Path:
    """waitress's source distribution, unpacked; fetched once."""
    unpacked = CACHE / f"waitress-{VERSION}"
    if not unpacked.exists():
        CACHE.mkdir(exist_ok=True)
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "waitress", "-d", str(CACHE)]
        done = subprocess.run([*fetch, f"waitress=={VERSION}"], capture_output=True, text=True, timeout=300, check=False)
        archive = CACHE / f"waitress-{VERSION}.tar.gz"
        if done.returncode or not archive.exists():
            pytest.skip(f"the source distribution of waitress cannot be fetched here: {done.stderr[-200:]}")
        with tarfile.open(archive) as packed:
            packed.extractall(CACHE, filter="data")
    return unpacked


def test_waitress_functional_tests_pass_against_our_server(sources: Path) -> None:
    (sources / "tests" / "conftest.py").write_text(SHIM.format(here=str(portal.HERE)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(sources),
         str(sources / "tests" / "test_functional.py")],
        capture_output=True, text=True, timeout=120, check=False, cwd=sources,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 137
