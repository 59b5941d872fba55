"""What venues and disks do in the middle of an emergency stop: exit status and statement are held
against the venue's own orders."""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.kill.small_desk import ROOT, SmallDesk, small_desk

from openbell.config.loader import load_desk
from openbell.config.secrets import load_secrets
from openbell.domain.ids import mint
from openbell.domain.orders import NewOrder, OrdType, Side
from openbell.domain.scopes import DESK
from openbell.state.latch import Latches
from openbell.venues.credentials import Credentials
from openbell.venues.port import Rejected
from openbell.venues.registry import open_venue
from openbell_sim.keys import Credentials as SimCredentials

CANCELS = ["cancel", "mass_cancel"]


@pytest.mark.parametrize(
    ("face", "fault"),
    [
        ("mt5", {"kind": "drop_reply", "kinds": CANCELS, "count": 3}),
        (
            "coinbase",
            {"kind": "status_503_unknown", "accepted": True, "kinds": CANCELS, "count": 2},
        ),
        ("mt5", {"kind": "hang", "hold_s": 30, "kinds": ["cancel"], "count": 1}),
        ("kraken", {"kind": "lazy_cancels", "delay_s": 0.5}),
        ("mt5", {"kind": "empty_list", "count": 1}),
        ("mt5", {"kind": "truncated_page", "count": 2}),
    ],
    ids=lambda each: each if isinstance(each, str) else each["kind"],
)
async def test_what_a_venue_gets_wrong_for_a_moment_ends_at_verified_zero(
    tmp_path: Path, face: str, fault: dict[str, Any]
) -> None:
    async with small_desk(tmp_path / "desk", (face,)) as desk:
        desk.rest(8)
        await next(iter(desk.houses.values())).suffer(fault)
        pressed = await desk.press()
        assert pressed.status == 0, pressed
        assert desk.own_open() == []


async def test_throttled_and_banned_it_waits_as_long_as_it_was_told(tmp_path: Path) -> None:
    async with small_desk(tmp_path / "desk", ("coinbase",)) as desk:
        desk.rest(6)
        (here,) = desk.houses.values()
        for status, wait_s in ((429, 1), (418, 2)):
            await here.suffer(
                {
                    "kind": "http_status", "status": status, "retry_after_s": wait_s,
                    "kinds": CANCELS, "count": 1,
                }
            )  # fmt: skip
        pressed = await desk.press()
        assert pressed.status == 0, pressed
        assert desk.own_open() == []
        waits = [e["seconds"] for e in pressed.heard("venue") if e["what"] == "waiting"]
        assert max(waits) >= 0.9


@pytest.mark.parametrize("fault", ["reject_cancels", "market_state"])
async def test_orders_that_a_venue_will_not_cancel_are_listed_and_never_called_done(
    tmp_path: Path, fault: str
) -> None:
    more: dict[str, Any] = {"state": "halted"} if fault == "market_state" else {}
    async with small_desk(tmp_path / "desk", ("mt5", "oanda")) as desk:
        desk.rest(3)
        await desk.houses["mt5-0"].suffer({"kind": fault, **more})
        pressed = await desk.press("--timeout", "3")
        assert pressed.status == 10, pressed
        refused = pressed.venue("mt5-0")
        assert refused["result"] == "residual"
        assert len(refused["orders"]) == len(desk.own_open()) == 3
        assert "https://mt5-0.example/orders" in refused["by_hand"]
        assert pressed.venue("oanda-1")["result"] == "verified"

        desk.houses["mt5-0"].sim.faults.clear()
        again = await desk.press()
        assert again.status == 0, again
        assert desk.own_open() == []


@pytest.mark.parametrize(
    "fault", [{"kind": "key_revoked"}, {"kind": "hang", "hold_s": 60}], ids=lambda f: f["kind"]
)
async def test_a_venue_of_which_nothing_is_known_is_told_with_what_to_do_by_hand(
    tmp_path: Path, fault: dict[str, Any]
) -> None:
    """Revoked in the middle of it, or hanging; the other venue is stopped as without it."""
    async with small_desk(tmp_path / "desk", ("mt5", "oanda")) as desk:
        desk.rest(3)
        await desk.houses["mt5-0"].suffer(fault)
        pressed = await desk.press("--timeout", "10")
        assert pressed.status == 7, pressed
        unknown = pressed.venue("mt5-0")
        assert unknown["result"] == "unknown"
        assert unknown["why"]
        assert "+44 20 0000" in unknown["by_hand"]
        other = pressed.venue("oanda-1")
        assert other["result"] == "verified"
        if fault["kind"] == "hang":
            assert other["took_s"] < unknown["took_s"], "it waited for the one that hangs"
        assert [o.symbol for o in desk.houses["oanda-1"].open()] == []


async def test_without_credentials_it_says_so_and_ends_the_desk_all_the_same(
    tmp_path: Path,
) -> None:
    async with small_desk(tmp_path / "desk") as desk:
        await desk.start("engine", "helper")
        await desk.until_sending("engine")
        (desk.folder / ".env").chmod(0o644)
        pressed = await desk.press()
        assert pressed.status == 7
        assert "others can read it" in pressed.venue("mt5-0")["why"]
        assert desk.alive() == {}


async def test_a_pair_that_can_only_cancel_is_used_where_there_is_one(tmp_path: Path) -> None:
    """The trading key is revoked; only the other one still works."""
    cancel = 'cancel_key_env = "CANCEL_KEY"\ncancel_secret_env = "CANCEL_SECRET"\n'
    async with small_desk(tmp_path / "desk", venue_more=cancel) as desk:
        desk.rest(3)
        env = desk.folder / ".env"
        good = env.read_text()
        env.write_text(good.replace("THE_KEY=", "CANCEL_KEY=").replace("THE_SECRET=", "CANCEL_SECRET=")
                       + "THE_KEY=revoked-revoked\nTHE_SECRET=revoked-revoked\n")  # fmt: skip
        pressed = await desk.press()
        assert pressed.status == 0, pressed
        assert desk.own_open() == []


@pytest.mark.parametrize(
    ("face", "code"),
    [
        ("kraken", "EGeneral:Permission denied"),
        ("binance", "-2015"),
        ("binance-usdm", "-2015"),
        ("coinbase", "PERMISSION_DENIED"),
        ("oanda", "ACCOUNT_ORDER_CREATION_LOCKED"),
        ("mt5", "10026"),
    ],
)
async def test_a_stop_key_that_the_venue_lets_enter_no_order_cancels_and_proves_it(
    tmp_path: Path, face: str, code: str
) -> None:
    """The venue gives the account a second key, restricted there, and revokes the trading key as the
    stop arrives. What the stop key may not, the venue itself refuses."""
    stop_key, stop_secret = "6d" * 32, "7e" * 32
    cancel = 'cancel_key_env = "STOP_KEY"\ncancel_secret_env = "STOP_SECRET"\n'
    async with small_desk(tmp_path / "desk", (face,), venue_more=cancel) as desk:
        ((name, here),) = desk.houses.items()
        here.sim.keys.add(SimCredentials("main", stop_key, stop_secret, may_trade=False))
        env = desk.folder / ".env"
        env.write_text(env.read_text() + f"STOP_KEY={stop_key}\nSTOP_SECRET={stop_secret}\n")
        desk.rest(3)
        await here.suffer({"kind": "key_revoked", "keys": "trading"})
        pressed = await desk.press()
        assert pressed.status == 0, pressed
        assert pressed.venue(name)["result"] == "verified"
        assert desk.own_open() == []

        loaded = load_desk(desk.folder)
        config = loaded.file.venues[name]
        pairs = load_secrets(loaded, desk.layout, {}).closing_credentials()
        assert pairs[name] == (stop_key, stop_secret)
        stopper = open_venue(name, config, Credentials(*pairs[name]))
        try:
            await stopper.connect()
            outcome = await stopper.submit(
                NewOrder(
                    cl_ord_id=mint(desk.desk_id, 9, 1),
                    venue=name,
                    symbol=config.symbols[0],
                    side=Side.BUY,
                    ord_type=OrdType.LIMIT,
                    order_qty=here.kind.quantity,
                    price=Decimal(here.kind.prices[0]),
                )
            )
        finally:
            await stopper.close()
        assert isinstance(outcome, Rejected), outcome
        assert code in outcome.code
        assert [each.reason for each in here.sim.exchange.ledger.refused] == ["may_not_trade"]
        assert desk.own_open() == []


# The disk.


async def _press_on_a_full_disk(desk: SmallDesk) -> dict[str, Any]:
    """No file of this process may grow: that is what it sees of a full disk."""

    def no_space() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-B", "-m", "openbell.kill", "--desk", str(desk.folder), "--events",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=no_space, limit=1 << 26,
        cwd=ROOT,
    )  # fmt: skip
    desk.pressing.append(process)
    pressed = await desk.end(process)
    assert pressed.status == 0, pressed
    return pressed.statement


async def test_on_a_full_disk_it_latches_stops_and_verifies_and_tells_what_is_not_kept(
    tmp_path: Path,
) -> None:
    async with small_desk(tmp_path / "desk") as desk:
        desk.rest(5)
        await desk.start("engine", "helper")
        await desk.until_sending("engine")
        stated = await _press_on_a_full_disk(desk)
        assert stated["result"] == "verified"
        assert desk.own_open() == []
        assert desk.alive() == {}
        assert Latches(desk.layout).scopes() == {DESK}, "an empty file takes no block"
        assert desk.layout.emergency_marker.exists()
        assert stated["checkpoint"]["problem"]
        assert any("NO CHECKPOINT" in each for each in stated["problems"])
        assert any("course" in each for each in stated["problems"])


async def test_where_no_latch_can_be_made_the_frozen_desk_is_stopped_all_the_same(
    tmp_path: Path,
) -> None:
    """A file lies where the folder of latches should, and a folder where the latch file should."""
    async with small_desk(tmp_path / "desk") as desk:
        desk.rest(5)
        await desk.start("engine")
        await desk.until_sending()
        desk.layout.latches.rmdir()
        desk.layout.latches.write_text("")
        desk.layout.latch.mkdir()
        pressed = await desk.press()
        assert pressed.status == 9, pressed
        assert pressed.statement["result"] == "verified"
        assert pressed.statement["latch"]["set"] is False
        assert desk.own_open() == []
        assert desk.alive() == {}
