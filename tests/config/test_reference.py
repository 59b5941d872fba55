"""The reference in docs is the one the models make, and leaves no key unexplained."""

from __future__ import annotations

import re
from pathlib import Path

from openbell.config import reference

DOCS = Path(__file__).parents[2] / "docs" / "reference"


def test_the_page_in_docs_is_current() -> None:
    page = (DOCS / "desk-toml.md").read_text()
    assert page == reference.markdown(), (
        "run: python -m openbell.config.reference > docs/reference/desk-toml.md"
    )


def test_every_key_is_explained() -> None:
    assert re.findall(r"^\| `\w+` .*\|  \|$", reference.markdown(), flags=re.M) == []


def test_the_schema_describes_keys() -> None:
    definitions = reference.schema()["$defs"]
    assert definitions["Permit"]["properties"]["ttl"]["description"].startswith("Life of a permit")
    assert definitions["Service"]["additionalProperties"] is False


def test_defaults_are_of_their_own_type() -> None:
    for definition in reference.schema()["$defs"].values():
        for key, described in definition.get("properties", {}).items():
            if described.get("type") == "string" and "default" in described:
                assert isinstance(described["default"], str), key
                if "pattern" in described and described["default"]:
                    assert re.match(described["pattern"], described["default"]), key
