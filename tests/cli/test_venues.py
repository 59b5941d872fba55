"""`openbell venues ...` and `connections` on a desk whose venue is a real process."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.command import run_here
from tests.harness.venue_desk import make_desk
from tests.venues.conformance.harness import running_sim
from tests.venues.subjects import Subject, all_subjects

from openbell.cli.commands.venues import last_look
from openbell.config.layout import DeskLayout
from openbell.domain.orders import ClOrdID
from openbell.venues.transport import NotSentError
from openbell_sim.testing import KEY, SECRET, VenueThread, venue_thread

DESK = """
[desk]
name = "d"
[venues.sim]
url = "{url}"
symbols = ["BTC/USDT", "ETH/USDT"]
key_env = "SIM_KEY"
secret_env = "SIM_SECRET"
timeout = "10s"
[services.engine]
command = ["true"]
port = 7999
role = "engine"
venues = ["sim"]
"""


@pytest.fixture
def sim() -> Iterator[VenueThread]:
    with venue_thread() as venue:
        yield venue


@pytest.fixture
def desk(sim: VenueThread, tmp_path: Path) -> Path:
    return made(tmp_path, sim.url)


def made(folder: Path, url: str, secret: str = SECRET) -> Path:
    (folder / "desk.toml").write_text(DESK.format(url=url))
    env = folder / ".env"
    env.write_text(f"SIM_KEY={KEY}\nSIM_SECRET={secret}\n")
    env.chmod(0o600)
    return folder


def openbell(*arguments: str, desk: Path) -> tuple[int, str, str]:
    return run_here("--desk", str(desk), *arguments)


def document(*arguments: str, desk: Path, expect: int) -> Any:
    status, out, err = openbell(*arguments, "--json", desk=desk)
    assert status == expect, out + err
    assert len(out.strip().splitlines()) == 1, f"not one document: {out!r}"
    return json.loads(out)


def orders_at(sim: VenueThread) -> list[dict[str, Any]]:
    with urllib.request.urlopen(sim.url + "/sim/v1/orders", timeout=10) as response:
        rows: list[dict[str, Any]] = json.load(response)["orders"]
        return rows


def add_fault(sim: VenueThread, **fault: object) -> None:
    request = urllib.request.Request(
        sim.url + "/sim/v1/control/faults", data=json.dumps(fault).encode(), method="POST"
    )
    urllib.request.urlopen(request, timeout=10).close()


def test_venues_are_listed_with_what_each_can_do_and_asked_nothing(tmp_path: Path) -> None:
    desk = made(tmp_path, "http://127.0.0.1:1")
    (row,) = document("venues", desk=desk, expect=0)["venues"]
    assert (row["name"], row["adapter"], row["credentials"]) == ("sim", "binance", True)
    assert row["capabilities"]["mass_cancel_per_symbol"] is True
    assert row["capabilities"]["dead_mans_switch"] is None
    status, out, _ = openbell("venues", desk=desk)
    assert status == 0
    assert "the venue has none" in out
    asking = re.split(r" {2,}", out.splitlines()[-1])
    assert asking[:3] == ["sim", "yes", "balance less holdings"]
    costs = row["capabilities"]["costs"]
    assert asking[-1] == f"{1 / costs['order']:,.0f}"


def test_an_adapter_that_does_not_exist_is_told_in_its_row(tmp_path: Path) -> None:
    desk = made(tmp_path, "http://127.0.0.1:1")
    file = desk / "desk.toml"
    file.write_text(file.read_text().replace("url =", 'adapter = "binanse"\nurl ='))
    status, _, err = openbell("venues", desk=desk)
    assert status == 1
    assert "binanse" in err


def test_a_venue_is_named_once_where_its_adapter_cannot_be_made(tmp_path: Path) -> None:
    desk = made(tmp_path, "http://127.0.0.1:1")
    file = desk / "desk.toml"
    tiers = 'adapter = "kraken"\noptions = { tier = "gold" }\nurl ='
    file.write_text(file.read_text().replace("url =", tiers))
    status, _, err = openbell("venues", desk=desk)
    assert status == 1
    assert err.count("sim: ") == 1 and "gold" in err, err


def test_a_venue_is_tried_without_an_order(desk: Path, sim: VenueThread) -> None:
    told = document("venues", "test", "sim", desk=desk, expect=0)
    results = {check["name"]: check["result"] for check in told["checks"]}
    assert told["ok"] is True
    assert results["connect"] == results["clock"] == results["order events"] == "ok"
    assert orders_at(sim) == []


@pytest.mark.parametrize(
    ("pair", "status", "said"),
    [
        (f"CLOSE_KEY={KEY}\nCLOSE_SECRET={SECRET}\n", 0, "reached, credentials accepted"),
        (f"CLOSE_KEY={KEY}\nCLOSE_SECRET={SECRET[::-1]}\n", 1, ""),
        (f"CLOSE_SECRET={SECRET}\n", 1, "the trading pair would be used"),
    ],
)
def test_the_closing_pair_is_tried_too(desk: Path, pair: str, status: int, said: str) -> None:
    file, env = desk / "desk.toml", desk / ".env"
    named = 'key_env = "SIM_KEY"'
    both = 'cancel_key_env = "CLOSE_KEY"\ncancel_secret_env = "CLOSE_SECRET"\n'
    file.write_text(file.read_text().replace(named, both + named))
    env.write_text(env.read_text() + pair)
    told, out, err = openbell("venues", "test", "sim", "--json", desk=desk)
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert told == status, out
    assert checks["connect"]["result"] == "ok"
    assert checks["closing pair"]["result"] == ("failed" if status else "ok")
    assert said in checks["closing pair"]["detail"]
    assert ("closing pair: positions" in checks) == (not status)
    assert SECRET[::-1] not in out + err


@pytest.mark.parametrize("restricted", [True, False])
def test_the_permissions_of_both_pairs_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restricted: bool
) -> None:
    """The venue knows two keys of the account, and tells of each what it may."""
    monkeypatch.setenv("STOP_KEY", "key-that-only-stops")
    monkeypatch.setenv("STOP_SECRET", "secret-that-only-stops")
    with venue_thread("--closing-pair", "STOP_KEY:STOP_SECRET") as sim:
        desk = made(tmp_path, sim.url)
        file, env = desk / "desk.toml", desk / ".env"
        named = 'key_env = "SIM_KEY"'
        both = 'cancel_key_env = "CLOSE_KEY"\ncancel_secret_env = "CLOSE_SECRET"\n'
        file.write_text(file.read_text().replace(named, both + named))
        pair = ("key-that-only-stops", "secret-that-only-stops") if restricted else (KEY, SECRET)
        env.write_text(env.read_text() + "CLOSE_KEY={}\nCLOSE_SECRET={}\n".format(*pair))
        checks = document("venues", "test", "sim", desk=desk, expect=0)["checks"]
        told = {check["name"]: check["detail"] for check in checks}
        assert told["key permissions"].startswith("trade: yes; withdraw: no")
        closing = told["closing pair: key permissions"]
        assert closing.startswith(f"trade: {'no' if restricted else 'yes'}; withdraw: no")
        assert ("it can enter orders" in closing) is not restricted


def test_an_order_is_placed_far_away_and_seen_gone(desk: Path, sim: VenueThread) -> None:
    told = document("venues", "test", "sim", "--order", desk=desk, expect=0)
    assert [c["result"] for c in told["checks"][-4:]] == ["ok"] * 4
    (row,) = orders_at(sim)
    assert (row["status"], row["cum_qty"]) == ("CANCELED", "0")
    assert row["cl_ord_id"].startswith("ob")


def test_no_order_is_placed_under_the_kill_switch(desk: Path, sim: VenueThread) -> None:
    """The desk of an emergency stop is latched and has no engine: an order was placed all the same."""
    latches = desk / "state" / "latches"
    latches.mkdir(parents=True, exist_ok=True)
    latch = latches / "venue-sim"
    latch.touch()
    status, out, err = openbell("venues", "test", "sim", "--order", desk=desk)
    assert status == 6, out + err
    assert "kill switch is latched" in err
    assert orders_at(sim) == []
    document("venues", "test", "sim", desk=desk, expect=0)
    latch.rename(latches / "venue-another")
    document("venues", "test", "sim", "--order", desk=desk, expect=0)


def test_the_kill_switch_is_looked_at_again_before_the_first_byte_of_that_order(
    tmp_path: Path,
) -> None:
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    look = last_look(layout, "sim", "BTC/USDT")
    look(ClOrdID("x"), 0)
    (layout.latches / "symbol-ETH%2FUSDT").touch()
    look(ClOrdID("x"), 0)
    layout.latch.touch()
    with pytest.raises(NotSentError, match="kill switch"):
        look(ClOrdID("x"), 0)


def test_an_order_that_cannot_be_cancelled_is_unknown_and_named(
    desk: Path, sim: VenueThread
) -> None:
    add_fault(sim, kind="reject_cancels")
    told = document("venues", "test", "sim", "--order", desk=desk, expect=7)
    (row,) = orders_at(sim)
    assert row["status"] == "NEW"
    last = told["checks"][-1]
    assert (last["name"], last["result"]) == ("see it gone", "unknown")
    assert row["cl_ord_id"] in last["hint"]


def test_an_order_whose_reply_is_lost_is_found_and_cancelled(desk: Path, sim: VenueThread) -> None:
    add_fault(sim, kind="drop_reply", method="POST", path="/api/v3/order", count=1)
    told = document("venues", "test", "sim", "--order", desk=desk, expect=7)
    results = {check["name"]: check["result"] for check in told["checks"]}
    assert results["place an order"] == "unknown"
    assert results["see it gone"] == "ok"
    (row,) = orders_at(sim)
    assert row["status"] == "CANCELED"


def test_a_clock_that_is_wrong_is_told(desk: Path, sim: VenueThread) -> None:
    add_fault(sim, kind="clock_skew", skew_ms=30_000)
    told = document("venues", "test", "sim", desk=desk, expect=1)
    clock = next(check for check in told["checks"] if check["name"] == "clock")
    assert clock["result"] == "failed"
    # Half of the answer's way, which is long on a busy machine, is what the measure may be off by.
    skew_ms = float(clock["detail"].split(" ms from ours")[0].split()[-1])
    assert skew_ms == pytest.approx(30_000, abs=1 + clock["took_ms"] / 2)


def test_a_list_of_open_orders_that_is_cut_is_unknown(desk: Path, sim: VenueThread) -> None:
    """It was told as fine, and the exit status was 0."""
    add_fault(sim, kind="http_status", status=503, path="/api/v3/openOrders", count=1)
    told = document("venues", "test", "sim", desk=desk, expect=7)
    listed = next(check for check in told["checks"] if check["name"] == "open orders")
    assert (listed["result"], listed["detail"]) == ("unknown", "0, list incomplete")


def test_a_wrong_secret_fails_and_is_not_shown(sim: VenueThread, tmp_path: Path) -> None:
    desk = made(tmp_path, sim.url, secret="canary-of-a-secret")
    status, out, err = openbell("venues", "test", "sim", desk=desk)
    assert status == 1
    assert "✗ connect" in out
    assert "canary" not in out + err


def test_a_venue_out_of_reach_is_unknown(tmp_path: Path) -> None:
    told = document("venues", "test", "sim", desk=made(tmp_path, "http://127.0.0.1:1"), expect=7)
    assert [check["result"] for check in told["checks"]] == ["unknown"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("test", "moon"), "venues of this desk: sim"),
        (("test", "sim", "--order", "--symbol", "X/Y"), "ETH"),
    ],
)
def test_wrong_names_are_told(arguments: tuple[str, ...], said: str, desk: Path) -> None:
    status, _, err = openbell("venues", *arguments, desk=desk)
    assert status == 2
    assert said in err


def test_accounts_are_listed(desk: Path) -> None:
    (row,) = document("venues", "accounts", desk=desk, expect=0)["venues"]
    assert [account["active"] for account in row["accounts"]] == [True]


def test_a_venue_that_does_not_tell_its_accounts_is_unknown(tmp_path: Path) -> None:
    desk = made(tmp_path, "http://127.0.0.1:1")
    (row,) = document("venues", "accounts", desk=desk, expect=7)["venues"]
    assert row["known"] is False


def test_connections_of_a_closed_desk_are_closed(tmp_path: Path) -> None:
    desk = made(tmp_path, "http://127.0.0.1:1")
    (row,) = document("connections", desk=desk, expect=0)["connections"]
    assert (row["order_entry"], row["market_data"], row["ok"]) == ("closed", "none", True)
    _, out, _ = openbell("connections", desk=desk)
    assert out.strip().endswith("closed"), "it is no fault, and not OK"


def test_connections_of_a_desk_without_services_are_not_ok(tmp_path: Path) -> None:
    desk = made(tmp_path, "http://127.0.0.1:1")
    file = desk / "desk.toml"
    file.write_text(file.read_text().replace('role = "engine"\n', ""))
    status, out, _ = openbell("connections", desk=desk)
    assert status == 0 and out.strip().endswith("no services")


def test_a_simulated_venue_that_does_not_run_says_how_to_start_it(tmp_path: Path) -> None:
    desk = made(tmp_path, "http://127.0.0.1:1")
    file = desk / "desk.toml"
    file.write_text(
        f'{file.read_text()}[services.face]\ncommand = ["true"]\nrole = "venue"\nvenues = ["sim"]\n'
    )
    for arguments in (("test", "sim"), ("accounts",)):
        status, out, err = openbell("venues", *arguments, desk=desk)
        assert status == 7
        assert f"`openbell --desk {desk} up --only face`" in out + err


def test_a_venue_without_credentials_hides_no_other(desk: Path, sim: VenueThread) -> None:
    """One made `venues accounts` end with exit code 4, and nothing was shown of any."""
    file = desk / "desk.toml"
    other = f'[venues.other]\nurl = "{sim.url}"\nsymbols = ["BTC/USDT"]\nsecret_env = "NOT_SET"\n'
    file.write_text(file.read_text().replace("[services.engine]", f"{other}[services.engine]"))
    told, other_told = document("venues", "accounts", desk=desk, expect=7)["venues"]
    assert told["known"] is True and told["accounts"]
    assert other_told["known"] is False
    assert "credentials of other are not set" in other_told["why"]


def test_what_a_venue_puts_off_is_asked_again(desk: Path, sim: VenueThread) -> None:
    """The second `venues test oanda` in a row ended unknown: two new connections a second is all
    that its address may make."""
    add_fault(sim, kind="http_status", status=429, retry_after_s=1, count=1)
    (row,) = document("venues", "accounts", desk=desk, expect=0)["venues"]
    assert row["known"] is True
    add_fault(sim, kind="http_status", status=429, retry_after_s=1, count=1)
    status, out, _ = openbell("venues", "test", "sim", desk=desk)
    assert status == 0
    assert "asked again in 1 s" in out


@pytest.mark.parametrize("subject", all_subjects(), ids=lambda subject: subject.name)
def test_a_test_order_works_at_every_venue(subject: Subject, tmp_path: Path) -> None:
    """Each venue has its own form of a ClOrdID, its own minima and price bands."""
    with running_sim(subject, tmp_path) as sim:
        desk = make_desk(tmp_path / "desk", subject, tick=subject.coarse_tick)
        file = desk.folder / "desk.toml"
        file.write_text(
            re.sub(r'url = "http://127.0.0.1:\d+"', f'url = "{sim.url}"', file.read_text()).replace(
                "adapter = ",
                'key_env = "SIM_KEY"\nsecret_env = "SIM_SECRET"\ntimeout = "30s"\nadapter = ',
            )
        )
        env = desk.folder / ".env"
        env.write_text(f"SIM_KEY={subject.key}\nSIM_SECRET={subject.secret}\n")
        env.chmod(0o600)
        told = document("venues", "test", "the-venue", "--order", desk=desk.folder, expect=0)
        assert [c["result"] for c in told["checks"][-4:]] == ["ok"] * 4, told
        (row,) = sim.rows()
        assert (row["status"], row["cum_qty"]) == ("CANCELED", "0")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_test_takes_its_order_back(
    desk: Path, sim: VenueThread, number: signal.Signals
) -> None:
    """The venue answers the question about the order too late to end the test by itself."""
    file = desk / "desk.toml"
    file.write_text(file.read_text().replace('timeout = "10s"', 'timeout = "60s"'))
    add_fault(sim, kind="hang", method="GET", path="/api/v3/order", hold_s=30, count=1)
    process = subprocess.Popen(
        [sys.executable, "-m", "openbell", "--desk", str(desk), "venues", "test", "sim", "--order"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        # Where the tests run in the background of a shell, SIGINT is ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    give_up_s = time.monotonic() + 60
    while not orders_at(sim):
        assert time.monotonic() < give_up_s
        time.sleep(0.01)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    (row,) = orders_at(sim)
    assert row["status"] == "CANCELED", said
    assert row["cl_ord_id"] in said
