"""The table in the documentation is what the suite found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.venues.conformance.results import RESULTS, table
from tests.venues.subjects import all_subjects

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "conformance.md"


@pytest.fixture
def subject() -> None:
    """This test is about all of them."""


def test_the_table_in_the_docs_is_what_was_found(request: pytest.FixtureRequest) -> None:
    results = request.config.stash[RESULTS]
    names = {subject.name for subject in all_subjects()}
    ran = {result.subject for result in results if result.operation.startswith("random")}
    if ran != names:
        pytest.skip("only a part of the suite was run")
    text = table(results)
    if os.environ.get("OPENBELL_WRITE_CONFORMANCE"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text, "write it anew: make conformance"
