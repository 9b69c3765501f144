"""docs/ARCHITECTURE.md walks one upload through the code: the functions that it names are those that run, in that order."""

import re
import sys
from types import FrameType
from typing import Any

import portal
from tests.client import Client

PAGE = (portal.HERE / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")


def walk() -> list[tuple[str, str]]:
    """File and function of each step, as the page has them."""
    section = PAGE.partition("## One request, step by step")[2].partition("\n## ")[0]
    return [
        (file, name) for name, file in re.findall(r"^\d+\. `(\w+)` in `([\w/.]+)`", section, re.M)
    ]


def test_an_upload_opens_the_files_of_the_walk_in_their_order(client: Client) -> None:
    alice = client.register()
    app, package = client.app_of(alice), client.package(alice)
    steps, entered = walk(), list[tuple[str, str]]()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        file = frame.f_code.co_filename.removeprefix(f"{portal.HERE}/")
        step = (file, frame.f_code.co_name)
        if event == "call" and step in steps and step not in entered:
            entered.append(step)

    sys.setprofile(note)
    try:
        client.upload(app, package, as_=alice).expect(201)
    finally:
        sys.setprofile(None)
    assert entered == steps
    assert len({file for file, _ in steps}) == len(steps) == 5, "each file is opened once"


def test_a_field_of_an_app_takes_at_most_five_python_files() -> None:
    """Of `homepage`, which devices see: beside its own rule, no file knows it by name but those of the page."""
    section = PAGE.partition("## Adding a field to an app")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`(mosis/[\w/]+\.py)`", section))
    assert len(listed) <= 5
    others = {"mosis/client", "mosis/ui", "mosis/commands", "mosis/validation"}
    naming = {
        str(path.relative_to(portal.HERE))
        for path in (portal.HERE / "mosis").rglob("*.py")
        if re.search(r"""\bhomepage\b(?!_)""", path.read_text(encoding="utf-8"))
        and str(path.parent.relative_to(portal.HERE)) not in others
    }
    # the rule that a person looks at a new home page
    beside = {"mosis/publishing/listing_changes.py"}
    assert naming - beside <= listed
