"""`mosis check` and the portal have the same findings for a package."""

import random
from pathlib import Path
from typing import Any

import pytest

from bench.fuzz import spoiled
from tests.campaign import seeded, short_and_full
from tests.client import Account, Client
from tests.command_line.driver import Mosis
from tests.package_builder import build_package, files_of, manifest_of
from tests.packages import test_inspect
from tests.packages.raw_zip import KEY
from tests.test_checks import EARNED, GOOD

APP = "com.acme.notes"
OF_CIRCUMSTANCE = {"permission_new", "first_app", "look_alike"}


@pytest.fixture
def settings() -> dict[str, str]:
    return {}


class Both:
    """The portal and the command line, asked for the same packages."""

    def __init__(self, client: Client, mosis: Mosis) -> None:
        self.client, self.mosis = client, mosis
        self.alice: Account = client.register()
        self.alice.key = KEY
        client.app_of(self.alice, APP)

    def portal(self, package: bytes) -> list[dict[str, Any]]:
        answer = self.client.upload(APP, package, as_=self.alice)
        if answer.status == 422:
            return list(answer["errors"])
        assert answer.status == 201, (answer.body, len(package), package[:40])
        at = f"/v1/apps/{APP}/versions/{answer['id']}"
        self.client.work()
        found = self.client.get(at, as_=self.alice)["findings"]
        self.client.post(f"{at}/withdraw", as_=self.alice).expect(200)
        return [each for each in found if each["code"] not in OF_CIRCUMSTANCE]

    def command_line(self, package: bytes) -> list[dict[str, Any]]:
        path = self.mosis.folder / "package.mosis"
        path.write_bytes(package)
        answer = self.mosis("check", str(path), "--app", APP, "--key", KEY.public_base64, "--json")
        document = answer.json
        assert document["skipped"] == {}
        assert answer.code == (0 if document["passed"] else 1)
        return list(document["findings"])

    def agree(self, package: bytes, what: object) -> int:
        """Fail unless both say the same; how many findings there are."""
        ours, theirs = self.command_line(package), self.portal(package)
        assert comparable(ours) == comparable(theirs), what
        return len(ours)


def comparable(findings: list[dict[str, Any]]) -> list[str]:
    """Findings as they are compared: the portal lists fields of an object in no fixed order."""
    return sorted(repr(sorted(each.items())) for each in findings)


@pytest.fixture
def both(client: Client, tmp_path: Path) -> Both:
    return Both(client, Mosis(tmp_path / "home"))


def test_for_the_packages_of_the_other_tests(both: Both) -> None:
    for code, package in test_inspect.CASES:
        if package:  # without a single byte there is no package in the request: 400
            assert both.agree(package, code) > 0
    for code, (_, files, _) in EARNED.items():
        assert both.agree(build_package(key=KEY, files=files), code) > 0
    both.agree(build_package(key=KEY, files=GOOD), "every kind of file")


@pytest.mark.parametrize("packages", short_and_full(60, 10_000))
def test_for_generated_packages(both: Both, packages: int) -> None:
    """Contents are spoiled before they are signed, so that the deep checks see them; archives after."""
    chance, seed = seeded()
    with_findings = 0
    for number in range(packages):
        package = generated(chance)
        with_findings += both.agree(package, f"SEED={seed}, package {number}") > 0
    assert with_findings > packages / 4


def generated(chance: random.Random) -> bytes:
    """A package with something spoiled in a file, in the manifest or in the archive."""
    files: dict[str, bytes] = {**files_of(manifest_of()), **GOOD}
    kind = chance.randrange(4)
    if kind == 0:
        return spoiled(build_package(key=KEY), chance) or b"\0"  # an empty body is no package: 400
    names = sorted(files if kind > 1 else ["manifest.json"])
    for name in chance.sample(names, chance.randint(1, min(3, len(names)))):
        files[name] = spoiled(files[name], chance)
    manifest = files.pop("manifest.json")
    return build_package(key=KEY, files=files, manifest=manifest)
