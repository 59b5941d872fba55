"""docs/reference/safety-tests.md names tests that exist, and leaves out no requirement and no fault."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reference" / "safety-tests.md").read_text()
_ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+) \|$", re.M)
_NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def rows(title: str) -> dict[int, str]:
    part = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    return {int(number): shown for number, _, shown in _ROW.findall(part)}


@pytest.mark.parametrize(("title", "last"), [("Requirements", 50), ("Faults", 36)])
def test_every_number_has_one_row_with_tests_or_the_word_missing(title: str, last: int) -> None:
    found = rows(title)
    assert list(found) == list(range(1, last + 1))
    for number, shown in found.items():
        told = "**missing**" in shown or _NAMED.search(shown) or "`make lint`" in shown
        assert told, f"{title} {number} names no test and does not say that it is missing"


def test_every_test_that_is_named_exists() -> None:
    gone = []
    for path, name in _NAMED.findall(PAGE):
        file = ROOT / path
        text = file.read_text() if file.is_file() else ""
        if not text or (name and not re.search(rf"^ *(async )?def {name}\(", text, re.M)):
            gone.append(f"{path}::{name}")
    assert gone == []
