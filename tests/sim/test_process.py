"""The venue as a process: its command line, its start, its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from openbell import __version__
from openbell.errors import ConfigError, ConflictError, UsageError
from openbell_sim import testing
from openbell_sim.account import FeeIn
from openbell_sim.arguments import settings
from openbell_sim.faces import face_kind
from openbell_sim.server import Venue


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "openbell_sim", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environ},
        check=False,
    )


def test_help_is_worth_reading() -> None:
    help_text = run("--help").stdout
    for word in ("--market", "--log", "/sim/v1/orders", "examples:"):
        assert word in help_text


def test_the_version_is_told() -> None:
    ended = run("--version")
    assert (ended.returncode, ended.stdout.split()) == (0, ["openbell-sim", __version__])


def test_a_face_that_does_not_exist_is_told_with_those_that_do() -> None:
    ended = run("--face", "nyse")
    assert ended.returncode == UsageError.exit_code
    assert '"nyse"' in ended.stderr
    assert "kraken" in ended.stderr


def test_limits_are_scaled_or_lifted() -> None:
    scales = [
        settings(arguments, {}).limit_scale
        for arguments in ([], ["--limit-scale", "0.5"], ["--no-limits"])
    ]
    assert scales == [1, 0.5, 0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--limit-scale", "-1"], "--limit-scale"),
        (["--limit-scale", "nan"], "--limit-scale"),
        (["--port", "70000"], "65535"),
        (["--max-open-orders", "0"], "--max-open-orders"),
        (["--account", "main:K:S"], "already"),
        (["--deposit", "USDT"], "CURRENCY=AMOUNT"),
        (["--deposit", "USDT=-1"], "not an amount"),
        (["--deposit", "nobody:USDT=1"], "no account nobody"),
        (["--account", "second"], "NAME:KEY_ENV:SECRET_ENV"),
        (["--symbols", "DOGEUSDT"], "DOGEUSDT"),
        (["--speed", "0"], "--speed"),
        (["--maker-fee", "much"], "--maker-fee"),
        (["--maker-fee", "5"], "more than all of the notional"),
        (["--deposit", "FOO=5"], "no FOO at this venue"),
        (["--fee-in", "FOO"], "no FOO at this venue"),
        (["--face", "kraken", "--weight-limit", "10"], "Kraken spot gives requests no weight"),
        (["--control-token-env", "UNSET_VARIABLE"], "UNSET_VARIABLE"),
    ],
)
def test_a_wrong_option_says_what_to_write(arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        settings(arguments, {})


def test_a_currency_is_named_as_the_venue_names_it() -> None:
    with pytest.raises(ConfigError) as caught:
        settings(["--face", "kraken", "--deposit", "BTC=3"], {})
    assert caught.value.hint == "it is called XBT here"


def test_a_secret_that_no_client_can_sign_with_is_refused_and_not_shown() -> None:
    environ = {"OPENBELL_SIM_KEY": "k", "OPENBELL_SIM_SECRET": "canary of a secret"}
    with pytest.raises(ConfigError, match="base64") as caught:
        settings(["--face", "kraken"], environ)
    assert "canary" not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize(
    ("host", "token", "warned"),
    [("0.0.0.0", "", True), ("0.0.0.0", "t", False), ("127.0.0.2", "", False)],
)
def test_control_that_is_open_to_others_is_warned_of(
    host: str, token: str, warned: bool, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    named = ["--control-token-env", "TOKEN"] if token else []
    settings(["--host", host, *named], {"TOKEN": token})
    assert (b"control_is_open" in capfdbinary.readouterr().out) is warned


def test_two_accounts_cannot_have_one_key() -> None:
    environ = {"OPENBELL_SIM_KEY": "same", "OPENBELL_SIM_SECRET": "a", "K": "same", "S": "b"}
    with pytest.raises(ConfigError, match="tell accounts apart") as caught:
        settings(["--account", "second:K:S"], environ)
    assert "same" not in caught.value.message


async def test_the_same_plan_and_the_same_requests_give_the_same_faults_in_another_process(
    tmp_path: Path, signed_at: Any
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(
        """
        seed = 11
        [[faults]]
        kind = "http_status"
        status = 504
        probability = 0.3
        [[faults]]
        kind = "bad_nonce"
        kinds = ["submit"]
        probability = 0.4
        after = 3
        """
    )
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}

    async def run_once() -> list[int]:
        with testing.venue_process("--faults", str(plan), "--symbols", "BTCUSDT") as process:
            call = signed_at(process.url)
            statuses = []
            for number in range(40):
                if number % 2:
                    status, _ = await call.order(**order, quantity="0.01", price="50000")
                else:
                    status, _, _ = await call("GET", "/api/v3/openOrders")
                statuses.append(status)
        return statuses

    first = await run_once()
    assert {200, 400, 504} == set(first)
    assert await run_once() == first


def test_accounts_deposits_and_keys_are_read() -> None:
    given = settings(
        ["--account", "second:K2:S2", "--deposit", "USDT=5", "--deposit", "second:BTC=1"],
        {"OPENBELL_SIM_KEY": "k", "OPENBELL_SIM_SECRET": "hush", "K2": "k2", "S2": "hush"},
    )
    assert given.accounts == ["main", "second"]
    assert [c.account for c in given.credentials] == ["main", "second"]
    assert set(given.deposits) == {("main", "USDT"), ("second", "USDT"), ("second", "BTC")}
    assert "hush" not in repr(given)


async def test_it_stops_cleanly_on_sigterm_with_streams_open(http: aiohttp.ClientSession) -> None:
    with testing.venue_process() as process:
        async with http.ws_connect(f"{process.url}/ws/btcusdt@bookTicker") as stream:
            await stream.receive(timeout=20)
            process.process.send_signal(signal.SIGTERM)
            while not stream.closed:
                await stream.receive(timeout=20)
        assert process.process.wait(20) == 0
        assert process.process.stdout is not None
        last = process.process.stdout.read().splitlines()[-1]
        assert orjson.loads(last)["event"] == "stopped"


def test_a_taken_port_is_told_with_its_number() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        ended = run("--port", str(port))
    assert ended.returncode == ConflictError.exit_code
    assert str(port) in ended.stderr
    assert "another port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_address_that_is_not_this_machines_is_told() -> None:
    ended = run("--port", "0", "--host", "192.0.2.1")
    assert ended.returncode == 1
    assert "192.0.2.1" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_broken_log_is_refused_with_the_exit_code_of_corruption(tmp_path: Path) -> None:
    path = tmp_path / "venue.log"
    path.write_text("not json\n")
    ended = run("--port", "0", "--log", str(path))
    assert ended.returncode == 8
    assert "line 1" in ended.stderr


async def test_without_keys_it_serves_its_market_and_refuses_private_calls(
    http: aiohttp.ClientSession, signed_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with testing.venue_process("--key-env", "UNSET_KEY") as process:
        async with http.get(f"{process.url}/api/v3/depth?symbol=BTCUSDT") as reply:
            assert reply.status == 200
        status, body, _ = await signed_at(process.url)("GET", "/api/v3/account")
        assert (status, body["code"]) == (401, -2015)


async def test_a_fault_plan_strikes_from_the_start(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('[[faults]]\nkind = "http_status"\nstatus = 504\ncount = 1\n')
    with testing.venue_process("--faults", str(plan)) as process:
        statuses = []
        for _ in range(2):
            async with http.get(f"{process.url}/api/v3/ping") as reply:
                statuses.append(reply.status)
        assert statuses == [504, 200]
        async with http.get(f"{process.url}/sim/v1/control/faults") as reply:
            (fault,) = (await reply.json())["faults"]
        assert (fault["kind"], fault["hits"], fault["spent"]) == ("http_status", 1, True)


def test_a_fault_plan_that_cannot_be_used_says_what_is_wrong(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('[[faults]]\nkind = "earthquake"\n')
    ended = run("--port", "0", "--faults", str(plan))
    assert ended.returncode == ConfigError.exit_code
    assert "earthquake" in ended.stderr
    assert "drop_reply, " in ended.stderr, "the kinds there are"
    assert "simulated-venue.md" in ended.stderr


async def test_the_calendar_closes_the_market_and_no_restart_forgets_to_open_it(
    tmp_path: Path, http: aiohttp.ClientSession, signed_at: Any
) -> None:
    calendar = tmp_path / "calendar.toml"
    calendar.write_text("windows = []\n")
    log = ("--log", str(tmp_path / "venue.log"), "--symbols", "BTCUSDT")
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
    for options, state, status in (
        (("--session", str(calendar)), "closed", 400),
        ((), "open", 200),
    ):
        with testing.venue_process(*log, *options) as process:
            async with http.get(f"{process.url}/sim/v1/market") as reply:
                (row,) = (await reply.json())["market"]
            assert (row["session"], row["bid"] is not None) == (state, True)
            assert (await signed_at(process.url).order(**order))[0] == status


@pytest.mark.parametrize(
    ("text", "words"),
    [("windows = 1", "windows"), ("hours = []", "hours"), ("= 1", "line 1")],
)
def test_a_calendar_that_cannot_be_used_says_what_is_wrong(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "calendar.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        settings(["--session", str(path)], {})


async def test_deposits_are_given_once(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    arguments = ("--log", str(tmp_path / "venue.log"), "--deposit", "USDT=70")
    for _ in range(2):
        with testing.venue_process(*arguments) as process:
            async with http.get(f"{process.url}/sim/v1/positions") as reply:
                (balance,) = (await reply.json())["balances"]
            assert (balance["currency"], balance["free"]) == ("USDT", "70")


def test_fees_are_the_venues_unless_somebody_says_otherwise() -> None:
    usual = face_kind("binance").rules.fees
    assert settings([], {}).fees == usual
    fees = settings(["--maker-fee", "0", "--fee-in", "BNB"], {}).fees
    assert fees is not None
    assert not fees.maker
    assert (fees.taker, fees.token) == (usual.taker, "BNB")
    kraken = settings(["--face", "kraken"], {}).fees
    assert kraken is not None
    assert (kraken.fee_in, kraken.token) == (FeeIn.QUOTE, "")
    received = settings(["--face", "kraken", "--fee-in", "received"], {}).fees
    assert received is not None
    assert received.fee_in is FeeIn.RECEIVED


async def test_in_a_thread_it_is_the_same_venue_and_says_nothing_to_this_process(
    tmp_path: Path, http: aiohttp.ClientSession, signed_at: Any, capfdbinary: Any
) -> None:
    log = tmp_path / "venue.jsonl"
    with testing.venue_thread("--log", str(log)) as venue:
        status, _, _ = await signed_at(venue.url)("GET", "/api/v3/account")
        assert status == 200
        with pytest.raises(ConflictError, match=str(venue.port)):
            with testing.venue_thread("--port", str(venue.port)):
                pass
    told = [orjson.loads(line)["event"] for line in venue.lines.getvalue().splitlines()]
    assert (told[-2:], capfdbinary.readouterr().out) == (["ready", "stopped"], b"")
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(f"{venue.url}/api/v3/ping")
    with testing.venue_thread("--log", str(log)) as again:
        assert b'"event":"restored"' in again.lines.getvalue()


def test_what_a_venue_in_a_thread_dies_of_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    async def die(_: Venue) -> None:
        raise OSError("out of sockets")

    monkeypatch.setattr(Venue, "run", die)
    with pytest.raises(OSError, match="out of sockets"):
        with testing.venue_thread():
            pass
