"""What a service learns from its environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from openbell.errors import ConfigError
from openbell.service.context import ServiceContext

DESK = """
[desk]
name = "test"
[venues.sim-one]
url = "http://127.0.0.1:7001"
symbols = ["BTC/USDT"]
[venues.other]
url = "http://127.0.0.1:7002"
symbols = ["BTC/USDT"]
[services.prices]
command = ["true"]
"""


def test_the_context_names_the_desk_its_folders_and_the_credentials_given(tmp_path: Path) -> None:
    (tmp_path / "desk.toml").write_text(DESK)
    context = ServiceContext.from_environment(
        {
            "OPENBELL_DESK": str(tmp_path),
            "OPENBELL_STATE": str(tmp_path / "elsewhere"),
            "OPENBELL_SERVICE": "prices",
            "OPENBELL_PORT": "8001",
            "OPENBELL_MARK": "abc:prices:3",
            "OPENBELL_VENUE_SIM_ONE_KEY": "the-key",
            "OPENBELL_VENUE_SIM_ONE_SECRET": "the-secret",
        }
    )
    assert (context.name, context.port, context.mark) == ("prices", 8001, "abc:prices:3")
    assert context.file.desk.name == "test"
    assert context.credentials == {"sim-one": ("the-key", "the-secret")}
    assert "the-secret" not in repr(context)
    assert context.state == tmp_path / "elsewhere" / "services" / "prices"
    assert context.state.is_dir()


def test_without_a_desk_the_error_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match="OPENBELL_DESK"):
        ServiceContext.from_environment({})
