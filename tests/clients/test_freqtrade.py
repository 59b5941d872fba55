"""freqtrade, unmodified, dry run, against the Binance face: only its URLs are changed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ccxt.pro
import pytest
from tests.harness.clients import client_program

from openbell_sim.testing import VenueProcess, venue_process

pytestmark = pytest.mark.timeout(300)
WAIT_S = 120

STRATEGY = """\
from freqtrade.strategy import IStrategy


class Probe(IStrategy):
    timeframe = "1m"
    minimal_roi = {"0": 10}
    stoploss = -0.5
    startup_candle_count = 1
    process_only_new_candles = False

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe["enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        dataframe["exit_long"] = 0
        return dataframe
"""


def moved_to(sim: VenueProcess, urls: Any) -> Any:
    """ccxt's table of addresses with the simulated venue's host."""
    if isinstance(urls, dict):
        return {key: moved_to(sim, value) for key, value in urls.items()}
    if not isinstance(urls, str):
        return urls
    old = urlsplit(urls)
    scheme = "ws" if old.scheme.startswith("ws") else "http"
    return old._replace(scheme=scheme, netloc=f"127.0.0.1:{sim.port}").geturl()


def configuration(folder: Path, sim: VenueProcess) -> Path:
    urls = {"api": moved_to(sim, ccxt.pro.binance().urls["api"])}
    prices = {"price_side": "other", "use_order_book": True, "order_book_top": 1}
    config = {
        "max_open_trades": 2, "stake_currency": "USDT", "stake_amount": 100, "dry_run": True,
        "dry_run_wallet": 10_000, "timeframe": "1m", "trading_mode": "spot", "margin_mode": "",
        # A market that has moved away from an order's price may not come back within this test: it is
        # taken back and placed anew.
        "unfilledtimeout": {"entry": 5, "exit": 5, "unit": "seconds"},
        "entry_pricing": prices, "exit_pricing": prices,
        "exchange": {
            "name": "binance", "key": "", "secret": "", "ccxt_config": {"urls": urls},
            "pair_whitelist": ["BTC/USDT", "ETH/USDT"], "enable_ws": True,
        },
        "pairlists": [{"method": "StaticPairList"}],
        "initial_state": "running",
        "internals": {"process_throttle_secs": 1, "heartbeat_interval": 1},
        "strategy": "Probe", "strategy_path": str(folder),
    }  # fmt: skip
    (folder / "probe.py").write_text(STRATEGY)
    (folder / "user_data").mkdir()
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def until(condition: Callable[[], bool], what: str, process: subprocess.Popen[bytes]) -> None:
    give_up_s = time.monotonic() + WAIT_S
    while not condition():
        assert process.poll() is None, f"freqtrade ended before: {what}"
        assert time.monotonic() < give_up_s, f"not within {WAIT_S} s: {what}"
        time.sleep(0.1)


def test_freqtrade_runs_and_trades_dry(tmp_path: Path) -> None:
    log = tmp_path / "freqtrade.log"
    with venue_process() as sim, log.open("wb") as output:
        process = subprocess.Popen(
            [
                client_program("freqtrade", "freqtrade"), "trade",
                "--config", str(configuration(tmp_path, sim)),
                "--db-url", "sqlite://", "--userdir", str(tmp_path / "user_data"),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"HOME": str(tmp_path), "COLUMNS": "1000", "NO_COLOR": "1"},
        )  # fmt: skip

        def says(pattern: str) -> bool:
            return re.search(pattern, log.read_text(errors="replace")) is not None

        try:
            until(lambda: says(r"state='RUNNING'"), "a heartbeat", process)
            for pair in ("BTC/USDT", "ETH/USDT"):
                until(
                    lambda pair=pair: says(rf"LIMIT_BUY has been fulfilled for Trade\(.*{pair}"),
                    f"a dry order in {pair} filled at the venue's prices",
                    process,
                )
            process.send_signal(signal.SIGTERM)
            # It takes SIGTERM for an interrupt from the keyboard, and ends in order.
            assert process.wait(60) == 128 + signal.SIGINT
            assert says("Cleaning up modules")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        told = log.read_text(errors="replace")
        assert " - ERROR - " not in told, told[-3000:]
