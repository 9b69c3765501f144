"""docs/PACKAGES.md is all that an app developer needs: its commands, word for word, with `zip`, `openssl` and `curl`."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import portal
from mosis.packages import signature
from tests.client import PASSWORD, Account, Client

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("curl", "zip", "openssl"))), reason="needs curl, zip and openssl"
    ),
]
PAGE = portal.HERE.joinpath("docs/PACKAGES.md").read_text(encoding="utf-8")
FIRST_APP, MAKE_KEY, PACK, SIGN_IN, REGISTER, UPLOAD = re.findall(
    r"```sh\n(.*?)```", PAGE, re.DOTALL
)
DOCUMENT, DIGESTS = re.findall(
    r"^```\n((?:<rml>|Manifest-Version).*?)```", PAGE, re.DOTALL | re.MULTILINE
)
ICON = "iVBORw0KGgo"


def example_of(field: str) -> Any:
    """What the table `manifest.json` shows as an example of a field."""
    (found,) = re.findall(rf"^\| `{re.escape(field)}` \|.*\| `(.*)` \|$", PAGE, re.MULTILINE)
    return json.loads(found)


def written(folder: Path, package_id: str, files: dict[str, str], **fields: Any) -> None:
    """The first app of the page under another id, with more files and fields."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | fields | {"id": package_id}))
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def first(folder: Path) -> str:
    assert (folder / "assets/main.rml").read_text() == DOCUMENT
    return "com.acme.notes"


def test_the_list_of_digests_has_the_form_of_the_page() -> None:
    listed, findings = signature.read_digests(DIGESTS.encode())
    assert listed == {"manifest.json": hashlib.sha256().digest()}
    assert findings == []


def with_everything(folder: Path) -> str:
    """Every optional field, as the table shows it, a script, a style sheet and texts."""
    written(
        folder,
        "com.acme.shelf",
        {
            "assets/main.rml": '<rml><head><link type="text/rcss" href="shelf.rcss"/>'
            '<script src="shelf.lua"></script></head><body><p>Books</p></body></rml>',
            "assets/shelf.rcss": "p { color: #333; }",
            "assets/shelf.lua": 'local shown = mosis.storage.get("key")\nreturn shown\n',
            "locales/en.json": '{"title": "Books"}',
            "locales/pt-BR.json": '{"title": "Livros"}',
        },
        **{
            name: example_of(name)
            for name in (
                "permissions",
                "description",
                "category",
                "screenshots",
                "locales",
                "$schema",
            )
        },
    )
    (folder / "shots").mkdir()
    shutil.copy(folder / "icons/icon-128.png", folder / "shots/list.png")
    return "com.acme.shelf"


def of_the_beta_channel(folder: Path) -> str:
    """A pre-release, a dangerous permission, names with spaces in nested folders, and CERT.PEM."""
    written(
        folder,
        "org.example.camera2",
        {
            "assets/lua scripts/Take one.lua": "mosis.camera.take()\n",
            "README.md": "# Camera\n",
            "META-INF/CERT.PEM": subprocess.run(
                ["openssl", "pkey", "-in", "signing-key.pem", "-pubout"],
                cwd=folder.parent, check=True, capture_output=True, text=True,
            ).stdout,
        },
        version="2.0.0-beta.1",
        permissions=["camera"],
    )  # fmt: skip
    return "org.example.camera2"


def test_three_different_apps_are_accepted(
    tmp_path: Path, url: str, client: Client, alice: Account, rita: Account
) -> None:
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PORTAL": url, "EMAIL": alice.email,
                   "PASSWORD": PASSWORD}  # fmt: skip

    def shell(script: str, folder: Path = tmp_path) -> str:
        done = subprocess.run(
            ["sh", "-eu", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout

    shell(MAKE_KEY)
    environment["TOKEN"] = json.loads(shell(SIGN_IN))["access_token"]
    register_key, make_app = (f"curl{part}" for part in REGISTER.split("curl")[1:])
    shell(register_key)
    for change in (first, with_everything, of_the_beta_channel):
        shell(FIRST_APP)
        package_id = change(tmp_path / "notes")
        shell(PACK, tmp_path / "notes")
        shell(make_app.replace("com.acme.notes", package_id))
        uploaded = json.loads(shell(UPLOAD.replace("com.acme.notes", package_id)))
        version = f"/v1/apps/{package_id}/versions/{uploaded['version']}"
        read = f'curl -sS "$PORTAL{version}" -H "Authorization: Bearer $TOKEN"'
        found = uploaded
        while found["state"] in ("checking", "ready"):
            found = json.loads(shell(read))
        assert found["state"] == "in_review", found
        shown = {each["code"] for each in found["findings"]}
        assert shown <= {"first_app", "permission_new"}, "a finding that the page should prevent"
        review = f"/v1/reviews/{found['review']['id']}"
        client.post(f"{review}/approve", {"comment": ""}, as_=rita).expect(200)
        client.post(f"{version}/publish", {}, as_=alice).expect(200)
        shutil.rmtree(tmp_path / "notes")
    listed = client.get("/v1/apps", as_=alice)["apps"]
    assert [each["status"] for each in listed] == ["published"] * 3
