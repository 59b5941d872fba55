"""What a venue's table may say is known before anything is started, with its line and its mend."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from tests.venues.subjects import all_subjects

from openbell.config.loader import load_desk, parse_desk
from openbell.config.models import DeskFile
from openbell.config.models import Venue as VenueConfig
from openbell.config.problems import DeskFileError
from openbell.errors import ConfigError
from openbell.procedures.settings import load_checked
from openbell.venues import registry
from openbell.venues.credentials import Credentials
from openbell.venues.making import make_all, must_be_made, setting_problems
from openbell.venues.registry import open_venue
from openbell.venues.settings import SETTINGS, wrong_settings

SIMULATED = 'url = "http://127.0.0.1:1"\n'
PRACTICE = 'environment = "practice"\nkey_env = "K"\nsecret_env = "S"\n'
LIVE = 'environment = "live"\nallow_live = true\nkey_env = "K"\nsecret_env = "S"\n'

UNUSABLE = [
    ("ccxt", SIMULATED, "options", "exchange"),
    ("kraken", f'{SIMULATED}options = {{ tier = "gold" }}\n', "options.tier", "pro"),
    ("kraken", f'{SIMULATED}options = {{ call_decay = "0" }}\n', "options.call_decay", "positive"),
    ("kraken", f'{SIMULATED}options = {{ call_decay = "nan" }}\n', "options.call_decay", "posit"),
    ("kraken", PRACTICE, "environment", "simulated"),
    ("coinbase", PRACTICE, "environment", "simulated"),
    ("mt5", PRACTICE, "", "url"),
    ("tradelocker", SIMULATED, "options", "server"),
    ("alpaca", f'{SIMULATED}options = {{ feed = "sipp" }}\n', "options.feed", "sip"),
]
UNWISE = [
    ("binance", f'{SIMULATED}options = {{ colour = "red" }}\n', "options.colour", "takes none"),
    ("kraken", f'{SIMULATED}options = {{ teir = "pro" }}\n', "options.teir", "tier"),
    ("oanda", LIVE + 'url = "http://10.0.0.2:80"\n', "url", "https://"),
    ("moon", LIVE + 'url = "http://moon.example"\n', "url", "https://"),
]


def desk_of(adapter: str, table: str) -> DeskFile:
    return parse_desk(text_of(adapter, table).encode(), Path("desk.toml"))


def text_of(adapter: str, table: str) -> str:
    return (
        f'[desk]\nname = "x"\n[venues.there]\nadapter = "{adapter}"\nsymbols = ["BTC/USD"]\n{table}'
        '[services.a]\ncommand = ["true"]\n'
    )


@pytest.mark.parametrize(("adapter", "table", "key", "mend"), UNUSABLE + UNWISE)
def test_a_wrong_table_is_told_with_its_key_and_its_mend(
    adapter: str, table: str, key: str, mend: str
) -> None:
    [found] = wrong_settings("there", desk_of(adapter, table).venues["there"])
    assert ".".join(found.key) == f"venues.there.{key}".rstrip(".")
    assert mend in found.hint or mend in found.message, found


@pytest.mark.parametrize(("adapter", "table", "key", "mend"), UNUSABLE)
def test_the_adapter_refuses_what_it_cannot_be_made_of(
    adapter: str, table: str, key: str, mend: str
) -> None:
    venue = desk_of(adapter, table).venues["there"]
    with pytest.raises(ConfigError) as refused:
        open_venue("there", venue, Credentials("", ""))
    [told] = wrong_settings("there", venue)
    assert told.message in refused.value.message and refused.value.hint == told.hint


@pytest.mark.parametrize(("adapter", "table", "key", "mend"), UNWISE[:-1])
def test_what_is_only_unwise_does_not_keep_an_open_desk_from_being_closed(
    adapter: str, table: str, key: str, mend: str
) -> None:
    made, problems = make_all(desk_of(adapter, table).venues)
    assert "there" in made and not problems


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80", "http://[::1]:80", "http://localhost", "https://10.0.0.2"]
)
def test_real_money_may_go_to_this_machine_or_be_encrypted(url: str) -> None:
    venue = desk_of("oanda", f'{LIVE}url = "{url}"\n').venues["there"]
    assert wrong_settings("there", venue) == []


async def test_every_table_over_which_the_suite_is_run_is_right() -> None:
    ours = {each.adapter: each for each in all_subjects()}
    assert set(ours) == set(SETTINGS), "each adapter says what it takes"
    for adapter, subject in ours.items():
        table: dict[str, Any] = {"url": "http://127.0.0.1:1", **subject.config}
        venue = VenueConfig(adapter=adapter, symbols=subject.symbols, **table)
        assert wrong_settings("there", venue) == [], adapter


def test_a_stock_that_is_not_quoted_in_dollars_is_told_with_what_is_meant() -> None:
    text = text_of("alpaca", SIMULATED).replace("BTC/USD", "SAP/EUR")
    [found] = wrong_settings("there", parse_desk(text.encode(), Path("x")).venues["there"])
    assert found.key == ("venues", "there", "symbols") and "SAP/USD" in found.hint


def test_an_exchange_that_ccxt_does_not_know_names_the_nearest() -> None:
    desk = desk_of("ccxt", f'{SIMULATED}options = {{ exchange = "krakn" }}\n')
    assert setting_problems(desk) == [] and must_be_made(desk) == ["there"]
    made, [problem] = make_all(desk.venues)
    assert made == {}
    assert problem.key == ("venues", "there", "options", "exchange")
    assert "did you mean kraken" in problem.hint


class Stranger:
    """An adapter of another package."""

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        if "colour" in config.options:
            raise ConfigError("no colour is known", hint="say green", key=("options", "colour"))
        raise ZeroDivisionError("of the stranger")


@pytest.mark.parametrize(
    ("value", "options", "key", "told"),
    [
        ("nowhere.at.all:Venue", "", ("venues", "there", "adapter"), "cannot be imported"),
        (f"{__name__}:NoSuchClass", "", ("venues", "there", "adapter"), "cannot be imported"),
        (f"{__name__}:Stranger", "", ("venues", "there"), "ZeroDivisionError: of the stranger"),
        (
            f"{__name__}:Stranger",
            'options = { colour = "red" }\n',
            ("venues", "there", "options", "colour"),
            "no colour is known",
        ),
    ],
)
def test_an_adapter_of_another_package_that_cannot_be_made_is_told(
    monkeypatch: pytest.MonkeyPatch, value: str, options: str, key: tuple[str, ...], told: str
) -> None:
    entry = EntryPoint(name="strange", value=value, group=registry.GROUP)
    installed = importlib.metadata.entry_points(group=registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [*installed, entry])
    desk = desk_of("strange", SIMULATED + options)
    assert setting_problems(desk) == [] and must_be_made(desk) == ["there"]
    _, [problem] = make_all(desk.venues)
    assert problem.key == key and told in problem.message and problem.hint


def test_a_desk_file_is_refused_with_the_lines_of_its_venues(tmp_path: Path) -> None:
    """By whatever opens a desk or reads its file again; not by what must reach one that is open."""
    file = tmp_path / "desk.toml"
    file.write_text(text_of("kraken", f'{SIMULATED}options = {{ tier = "gold" }}\n'))
    with pytest.raises(DeskFileError) as refused:
        load_checked(tmp_path)
    [problem] = refused.value.problems
    assert problem.line == 7 and "gold" in problem.message
    assert load_desk(tmp_path).file.venues["there"].options == {"tier": "gold"}
    file.write_text(text_of("krakn", SIMULATED))
    with pytest.raises(DeskFileError, match="did you mean kraken"):
        load_checked(tmp_path)


def test_the_process_prints_what_it_found(tmp_path: Path) -> None:
    (tmp_path / "desk.toml").write_text(
        text_of("ccxt", f'{SIMULATED}options = {{ exchange = "krakn" }}\n')
    )
    ran = subprocess.run(
        [sys.executable, "-m", "openbell.venues.making", "--desk", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    [problem] = json.loads(ran.stdout)["problems"]
    assert problem["key"] == ["venues", "there", "options", "exchange"]
