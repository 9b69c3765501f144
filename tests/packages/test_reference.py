"""docs/PACKAGES.md has the tables that the checks use."""

from mosis.packages import reference
from mosis.packages.findings import CURES, FINDINGS


def test_the_page_is_what_the_generator_writes() -> None:
    page = reference.PAGE.read_text(encoding="utf-8")
    assert reference.updated(page) == page, "run `make reference`"


def test_every_finding_has_a_cure() -> None:
    assert list(CURES) == list(FINDINGS)


def test_an_outdated_table_is_replaced_and_the_prose_stays() -> None:
    page = reference.PAGE.read_text(encoding="utf-8")
    outdated = page.replace("| `microphone` |", "| `mike` |").replace("1000", "2000")
    assert outdated != page
    assert reference.updated(outdated) == page
