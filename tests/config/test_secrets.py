"""Secrets are found, kept private, and given only to who names them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.config.secrets import load_secrets, missing_secrets, read_env_file
from openbell.errors import ConfigError, RefusedError

DESK = """
[desk]
name = "d"
[venues.sim]
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
[venues.real]
environment = "practice"
symbols = ["BTC/USDT"]
key_env = "REAL_KEY"
secret_env = "REAL_SECRET"
[services.engine]
command = ["x"]
port = 2
role = "engine"
venues = ["sim", "real"]
[services.other]
command = ["x"]
secrets = ["OTHER"]
"""


@pytest.fixture
def desk_folder(tmp_path: Path) -> Path:
    (tmp_path / "desk.toml").write_text(DESK)
    return tmp_path


def env_file(folder: Path, text: str, mode: int = 0o600) -> None:
    (folder / ".env").write_text(text)
    (folder / ".env").chmod(mode)


def test_a_simulated_venue_gets_a_pair_that_stays(desk_folder: Path) -> None:
    desk, layout = load_desk(desk_folder), DeskLayout.for_desk(desk_folder, {})
    first = load_secrets(desk, layout, {}).venue_credentials()
    again = load_secrets(desk, layout, {}).venue_credentials()
    assert first == again
    assert set(first) == {"sim"}
    assert stat.S_IMODE(layout.credentials.stat().st_mode) == 0o600


def test_the_environment_wins_over_the_file(desk_folder: Path) -> None:
    env_file(desk_folder, "REAL_KEY=from-file\nexport REAL_SECRET='s'\n# comment\n")
    desk, layout = load_desk(desk_folder), DeskLayout.for_desk(desk_folder, {})
    credentials = load_secrets(desk, layout, {"REAL_KEY": "from-environment"}).venue_credentials()
    assert credentials["real"] == ("from-environment", "s")


def test_a_service_sees_only_what_it_names(desk_folder: Path) -> None:
    env_file(desk_folder, "REAL_KEY=k\nREAL_SECRET=s\nOTHER=o\nUNNAMED=u\n")
    desk, layout = load_desk(desk_folder), DeskLayout.for_desk(desk_folder, {})
    secrets = load_secrets(desk, layout, {})
    assert secrets.environment_for("other") == {"OTHER": "o"}
    assert set(secrets.environment_for("engine")) == {
        "REAL_KEY",
        "REAL_SECRET",
        "OPENBELL_VENUE_SIM_KEY",
        "OPENBELL_VENUE_SIM_SECRET",
    }
    assert "u" not in secrets.values()


def test_no_value_shows_in_a_repr(desk_folder: Path) -> None:
    env_file(desk_folder, "OTHER=canary-value\n")
    desk, layout = load_desk(desk_folder), DeskLayout.for_desk(desk_folder, {})
    assert "canary-value" not in repr(load_secrets(desk, layout, {}))


def test_a_file_that_others_can_read_is_refused(desk_folder: Path) -> None:
    env_file(desk_folder, "OTHER=o\n", mode=0o644)
    with pytest.raises(RefusedError) as caught:
        read_env_file(desk_folder / ".env")
    assert "chmod 600" in caught.value.hint


def test_a_bad_line_is_named_without_its_text(desk_folder: Path) -> None:
    env_file(desk_folder, "OTHER=o\ncanary-value\n")
    with pytest.raises(ConfigError) as caught:
        read_env_file(desk_folder / ".env")
    assert ":2:" in caught.value.message
    assert "canary" not in caught.value.message


def test_missing_variables_are_told_with_who_names_them(desk_folder: Path) -> None:
    problems = missing_secrets(load_desk(desk_folder), {"REAL_KEY": "k", "REAL_SECRET": ""})
    assert {p.key for p in problems} == {
        ("venues", "real", "secret_env"),
        ("services", "other", "secrets"),
    }
