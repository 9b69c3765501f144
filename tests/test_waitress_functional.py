"""waitress's own functional tests, run over mosis.server: what we replaced must still do what waitress promises.

They come from its source distribution, fetched by pip into .cache/ (skipped where no index answers), and run in a process
of their own with waitress's server class replaced. HTTP/1.1 without Host is refused here, so Host is added to what
they send.
"""

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent.parent
RELEASE = "waitress-3.0.2"

# What asserts the plain text of errors or a behaviour that is stricter here on purpose, and why: name -> reason.
DESELECTED = {
    "test_broken_chunked_encoding": "errors are problem+json, not text/plain",
    "test_broken_chunked_encoding_invalid_hex": "errors are problem+json, not text/plain",
    "test_broken_chunked_encoding_invalid_extension": "errors are problem+json, not text/plain",
    "test_broken_chunked_encoding_missing_chunk_end": "errors are problem+json, not text/plain",
    "test_request_body_too_large_chunked_encoding": "errors are problem+json, not text/plain",
    "test_before_start_response_http_10": "errors are problem+json, and never a traceback",
    "test_before_start_response_http_11": "errors are problem+json, and never a traceback",
    "test_before_start_response_http_11_close": "errors are problem+json, and never a traceback",
    "test_after_start_response_http10": "errors are problem+json, and never a traceback",
    "test_after_start_response_http11": "errors are problem+json, and never a traceback",
    "test_after_start_response_http11_close": "errors are problem+json, and never a traceback",
    "test_expose_tracebacks_http_10": "errors are problem+json, and never a traceback",
    "test_expose_tracebacks_http_11": "errors are problem+json, and never a traceback",
    "test_request_headers_too_large_http11": "an error before the version is known is HTTP/1.1",
    "test_request_body_too_large_with_no_cl_http10_keepalive": "as above",
    "test_request_body_too_large_with_no_cl_http11": "as above",
    "test_request_body_too_large_with_wrong_cl_http10_keepalive": "as above",
    "test_request_body_too_large_with_wrong_cl_http11": "as above",
    "test_http10_listlentwo": "a response that is a list has a Content-Length here",
    "test_http11_listlentwo": "a response that is a list has a Content-Length here",
    "test_proxy_headers": "X-Forwarded-Proto and -Host never reach the application",
}

# On Unix sockets, which the portal does not listen on, the same requests would be sent again.
SHIM = """
from waitress import server
from mosis.server import Admission, Server

class Fixture(Server):
    def __init__(self, application, host=None, port=None, max_request_body_size=1 << 30, **settings):
        super().__init__(application, "127.0.0.1:0", 4, lambda *_: Admission(max_request_body_size),
                         **{"ident": "waitress"} | settings)

server.TcpWSGIServer = Fixture

def pytest_collection_modifyitems(config, items):
    left_out = [each for each in items if each.name in DESELECTED or each.cls.__name__.startswith("Unix")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [each for each in items if each not in left_out]
"""


@pytest.fixture(scope="module")
def suite() -> Path:
    """The folder with waitress's tests, unpacked and adapted afresh."""
    cache = HERE / ".cache"
    archive = cache / f"{RELEASE}.tar.gz"
    if not archive.exists():
        wanted = RELEASE.replace("-", "==")
        fetched = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--disable-pip-version-check",
                "--no-deps",
                "--no-binary",
                ":all:",
                "--timeout",
                "5",
                "--retries",
                "1",
                "-d",
                str(cache),
                wanted,
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if not archive.exists():
            pytest.skip(
                "no index to fetch waitress's source distribution from: "
                + fetched.stderr.strip()[-200:]
            )
    folder = cache / RELEASE
    with tarfile.open(archive) as tar:
        tar.extractall(
            cache,
            [each for each in tar if each.name.startswith(f"{RELEASE}/tests/")],
            filter="data",
        )
    tests = folder / "tests/test_functional.py"
    tests.write_text(
        re.sub(
            r"HTTP/1\.1\\r\\n(?!Host)", r"HTTP/1.1\\r\\nHost: localhost\\r\\n", tests.read_text()
        )
    )
    (folder / "conftest.py").write_text(f"DESELECTED = {set(DESELECTED)}\n{SHIM}")
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


def test_waitress_functional_tests_pass(suite: Path) -> None:
    collected = re.findall(r"def (test_\w+)", (suite / "tests/test_functional.py").read_text())
    assert set(DESELECTED) <= set(collected), "a deselected test is not there any more"
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/test_functional.py",
        ],
        cwd=suite,
        env={"PYTHONPATH": str(HERE), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-6000:]
    (passed,) = re.findall(r"^(\d+) passed, \d+ deselected", ran.stdout, re.MULTILINE)
    assert int(passed) >= 45
