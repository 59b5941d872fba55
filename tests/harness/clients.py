"""The venues' own clients and whole applications, each in an environment of its own (`make clients`)."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def client_program(environment: str, name: str = "python") -> str:
    """`client_program("vendors")`: the Python that has the vendors' clients.

    Fails where `make clients` was not run: a suite that skips its clients shows nothing.
    """
    program = REPOSITORY / f".venv-{environment}" / "bin" / name
    assert program.exists(), f"there is no {program}: run `make clients`"
    return str(program)
