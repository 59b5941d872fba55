"""Secrets are found, kept private, and given only to who names them."""

from __future__ import annotations

import os
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


def test_what_differs_is_told_by_name_alone(desk_folder: Path) -> None:
    env_file(desk_folder, "REAL_KEY=k\nREAL_SECRET=s\n")
    desk, layout = load_desk(desk_folder), DeskLayout.for_desk(desk_folder, {})
    before = load_secrets(desk, layout, {})
    assert before.differing(load_secrets(desk, layout, {})) == ()
    after = load_secrets(desk, layout, {"REAL_SECRET": "canary-value", "OTHER": "o"})
    assert before.differing(after) == after.differing(before) == ("OTHER", "REAL_SECRET")


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


@pytest.mark.parametrize("content", [b"OTHER=canary\xff\n", None])
def test_a_file_that_cannot_be_read_is_named(desk_folder: Path, content: bytes | None) -> None:
    file = desk_folder / ".env"
    if content is None:
        file.mkdir(mode=0o700)
    else:
        file.write_bytes(content)
        file.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        read_env_file(file)
    assert str(file) in caught.value.message
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None or content is None


@pytest.mark.parametrize("trace", ["records/engine.json", "services/venue-sim/venue.jsonl"])
def test_a_desk_that_has_run_gets_no_second_pair(desk_folder: Path, trace: str) -> None:
    desk, layout = load_desk(desk_folder), DeskLayout.for_desk(desk_folder, {})
    first = load_secrets(desk, layout, {}).venue_credentials()
    kept = layout.credentials.read_bytes()
    (layout.state / trace).parent.mkdir(parents=True, exist_ok=True)
    (layout.state / trace).write_text("{}\n")
    layout.credentials.unlink()
    with pytest.raises(ConfigError, match=r"credentials\.env is gone"):
        load_secrets(desk, layout, {})
    assert not layout.credentials.exists()
    layout.credentials.write_bytes(kept)
    layout.credentials.chmod(0o600)
    assert load_secrets(desk, layout, {}).venue_credentials() == first


def test_a_desk_that_was_only_opened_gets_its_pair(desk_folder: Path) -> None:
    desk, layout = load_desk(desk_folder), DeskLayout.for_desk(desk_folder, {})
    layout.make()
    (layout.records / "engine.json").touch()
    layout.service_state("engine").mkdir(parents=True)
    assert set(load_secrets(desk, layout, {}).venue_credentials()) == {"sim"}


def test_a_new_pair_is_on_the_disk_with_its_name(
    desk_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, layout = load_desk(desk_folder), DeskLayout.for_desk(desk_folder, {})
    synced: list[tuple[bool, bool]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append((is_folder, layout.credentials.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    load_secrets(desk, layout, {})
    assert synced == [(False, False), (True, True)]


def test_missing_variables_are_told_with_who_names_them(desk_folder: Path) -> None:
    problems = missing_secrets(load_desk(desk_folder), {"REAL_KEY": "k", "REAL_SECRET": ""})
    assert {p.key for p in problems} == {
        ("venues", "real", "secret_env"),
        ("services", "other", "secrets"),
    }


def test_whoever_closes_gets_the_pair_that_can_only_close(desk_folder: Path) -> None:
    text = (desk_folder / "desk.toml").read_text()
    named = 'key_env = "REAL_KEY"'
    assert named in text
    pair = 'cancel_key_env = "CLOSE_KEY"\ncancel_secret_env = "CLOSE_SECRET"\n'
    (desk_folder / "desk.toml").write_text(text.replace(named, pair + named))
    env_file(desk_folder, "REAL_KEY=k\nREAL_SECRET=s\nCLOSE_KEY=ck\nCLOSE_SECRET=cs\n")
    desk, layout = load_desk(desk_folder), DeskLayout.for_desk(desk_folder, {})
    secrets = load_secrets(desk, layout, {})
    assert secrets.venue_credentials()["real"] == ("k", "s")
    assert secrets.closing_credentials()["real"] == ("ck", "cs")
    assert secrets.closing_credentials()["sim"] == secrets.venue_credentials()["sim"]
    assert {"ck", "cs"} <= set(secrets.values())


@pytest.mark.parametrize(
    "half", ["CLOSE_KEY=ck\n", "CLOSE_SECRET=cs\n", "CLOSE_KEY=\nCLOSE_SECRET=cs\n", ""]
)
def test_a_closing_pair_of_which_a_half_is_not_set_leaves_the_trading_pair(
    desk_folder: Path, half: str
) -> None:
    text = (desk_folder / "desk.toml").read_text()
    named = 'key_env = "REAL_KEY"'
    pair = 'cancel_key_env = "CLOSE_KEY"\ncancel_secret_env = "CLOSE_SECRET"\n'
    (desk_folder / "desk.toml").write_text(text.replace(named, pair + named))
    env_file(desk_folder, f"REAL_KEY=k\nREAL_SECRET=s\n{half}")
    desk, layout = load_desk(desk_folder), DeskLayout.for_desk(desk_folder, {})
    assert load_secrets(desk, layout, {}).closing_credentials()["real"] == ("k", "s")


def test_a_venue_without_keys_closes_with_a_secret_alone(desk_folder: Path) -> None:
    text = (desk_folder / "desk.toml").read_text()
    named = 'key_env = "REAL_KEY"'
    (desk_folder / "desk.toml").write_text(text.replace(named, 'cancel_secret_env = "CLOSE_TOKEN"'))
    env_file(desk_folder, "REAL_SECRET=s\nCLOSE_TOKEN=ct\n")
    desk, layout = load_desk(desk_folder), DeskLayout.for_desk(desk_folder, {})
    assert load_secrets(desk, layout, {}).closing_credentials()["real"] == ("", "ct")
