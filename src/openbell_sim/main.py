"""`openbell-sim`: starts a simulated venue."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path

from openbell.errors import ConfigError, OpenbellError
from openbell_sim.account import FeeSchedule
from openbell_sim.keys import Credentials
from openbell_sim.log import log
from openbell_sim.market.generator import DEFAULT_SYMBOLS, Generator
from openbell_sim.market.recording import Recording
from openbell_sim.market.source import MarketSource
from openbell_sim.server import Settings, Venue

_DESCRIPTION = """\
Starts a simulated venue on loopback: a real matching engine behind the protocol of Binance spot.
Clients of the real venue work against it when their URLs are changed.

The market comes from recordings of the real one (--market, as often as there are files) and, for
symbols without a recording, from a seeded generator. Orders of the desk and of the crowd meet in
the same books.

Accounts' keys come from the environment, never from the command line. Without them the venue
serves market data and refuses private calls.
"""

_EXAMPLES = """\
examples:
  openbell-sim --port 7001
      four generated markets, the account `main`, keys from OPENBELL_SIM_KEY and _SECRET
  openbell-sim --market ethusdt.gz --speed 2
      a recording, twice as fast; the other default symbols are generated
  openbell-sim --market ethusdt.gz --symbols ""
      nothing but the recording
  openbell-sim --port 7001 --log state/venue.log --deposit USDT=50000
      orders and balances survive a restart, a kill -9 included

The first line that says "event":"ready" holds the port; --port 0 takes any free one.
GET /sim/v1/orders, /sim/v1/fills and /sim/v1/positions tell the venue's own truth.
SIGTERM or SIGINT stops the venue; open orders stay open in its --log.
"""

_DEFAULT_DEPOSITS = ("USDT=1000000", "BTC=5", "ETH=100", "LTC=1000", "BNB=100")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="openbell-sim",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--port", type=int, default=7001, help="0: any free one (default: 7001)")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add(
        "--market",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.gz",
        help="recording of Binance WebSocket messages, lines `<receive time ns> <json>`; played "
        "from its snapshot on, begun anew at its end",
    )
    add(
        "--symbols",
        metavar="A,B",
        help="symbols that are generated unless they are recorded "
        f"(default: {','.join(DEFAULT_SYMBOLS)})",
    )
    add("--seed", type=int, default=1, help="of the generated markets (default: 1)")
    add("--speed", type=float, default=1.0, help="2 plays the market twice as fast (default: 1)")
    add(
        "--log",
        type=Path,
        metavar="FILE",
        help="order log: every order, fill, cancel and deposit; without it all is in memory",
    )
    add(
        "--deposit",
        action="append",
        metavar="[ACCOUNT:]CURRENCY=AMOUNT",
        help="what an account begins with; ignored where the order log knows the account "
        f"(default: {' '.join(_DEFAULT_DEPOSITS)} for every account)",
    )
    add(
        "--key-env",
        default="OPENBELL_SIM_KEY",
        metavar="NAME",
        help="environment variable that holds the key of account `main` "
        "(default: OPENBELL_SIM_KEY)",
    )
    add(
        "--secret-env",
        default="OPENBELL_SIM_SECRET",
        metavar="NAME",
        help="environment variable that holds its secret (default: OPENBELL_SIM_SECRET)",
    )
    add(
        "--account",
        action="append",
        default=[],
        metavar="NAME:KEY_ENV:SECRET_ENV",
        help="another account and the variables with its key and secret",
    )
    add("--maker-fee", default="0.001", metavar="RATE", help="of the notional (default: 0.001)")
    add("--taker-fee", default="0.001", metavar="RATE", help="of the notional (default: 0.001)")
    add(
        "--fee-in",
        default="received",
        metavar="received|CURRENCY",
        help="take fees in this currency (BNB: with Binance's 25 %% off) while the account has "
        "some, else in what the fill brings (default: received)",
    )
    add(
        "--weight-limit",
        type=int,
        help="Binance: request weight per minute and address; more is answered 429 "
        "(default: what Binance documents)",
    )
    add(
        "--max-open-orders",
        type=int,
        default=200,
        help="per account and symbol (default: 200)",
    )
    add(
        "--control-token-env",
        metavar="NAME",
        help="environment variable with the bearer token that /sim/v1/control asks for "
        "(default: none is asked for)",
    )
    return parser


def _decimal(text: str, what: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise ConfigError(f"{what}: {text!r} is not an amount")
    return value


def _credentials(
    options: argparse.Namespace, environ: Mapping[str, str]
) -> tuple[list[str], list[Credentials]]:
    accounts, credentials = ["main"], []
    wanted = [("main", options.key_env, options.secret_env)]
    for text in options.account:
        parts = text.split(":")
        if len(parts) != 3 or not all(parts):
            raise ConfigError(f"--account {text}: write NAME:KEY_ENV:SECRET_ENV")
        wanted.append((parts[0], parts[1], parts[2]))
        accounts.append(parts[0])
    for name, key_env, secret_env in wanted:
        key, secret = environ.get(key_env, ""), environ.get(secret_env, "")
        if key and secret:
            credentials.append(Credentials(name, key, secret))
        else:
            log("warning", "no_credentials", account=name, variables=[key_env, secret_env])
    return accounts, credentials


def _deposits(texts: Sequence[str], accounts: Sequence[str]) -> dict[tuple[str, str], Decimal]:
    deposits: dict[tuple[str, str], Decimal] = {}
    for text in texts:
        holder, equals, amount = text.partition("=")
        account, colon, currency = holder.rpartition(":")
        if not equals or not currency:
            raise ConfigError(f"--deposit {text}: write CURRENCY=AMOUNT or ACCOUNT:CURRENCY=AMOUNT")
        for name in [account] if colon else accounts:
            if name not in accounts:
                raise ConfigError(f"--deposit {text}: there is no account {name}")
            deposits[name, currency] = _decimal(amount, f"--deposit {text}")
    return deposits


def _control_token(name: str | None, environ: Mapping[str, str]) -> str:
    if name is None:
        return ""
    if not environ.get(name):
        raise ConfigError(f"--control-token-env {name}: that variable is not set")
    return environ[name]


def _sources(options: argparse.Namespace) -> list[MarketSource]:
    """The recordings, and a generator for the other symbols. Raises ConfigError."""
    sources: list[MarketSource] = []
    recorded: dict[str, Path] = {}
    for path in options.market:
        recording = Recording(path, partial(_warn_of_damage, path))
        for instrument in recording.instruments:
            if instrument.symbol in recorded:
                raise ConfigError(
                    f"{instrument.symbol} is in two recordings: "
                    f"{recorded[instrument.symbol]} and {path}",
                    hint="give one of them; a symbol has one market",
                )
            recorded[instrument.symbol] = path
        sources.append(recording)
    wanted = DEFAULT_SYMBOLS if options.symbols is None else options.symbols.split(",")
    symbols = [symbol for symbol in wanted if symbol and symbol not in recorded]
    if symbols:
        try:
            sources.append(Generator(symbols, options.seed))
        except ValueError as error:
            raise ConfigError(str(error)) from error
    if not sources:
        raise ConfigError("a venue needs a market: give --market or --symbols")
    return sources


def _warn_of_damage(path: Path, text: str) -> None:
    log("warning", "recording_damaged", file=path, text=text)


def settings(arguments: Sequence[str] | None, environ: Mapping[str, str]) -> Settings:
    """Raises ConfigError; argparse exits by itself."""
    options = _parser().parse_args(arguments)
    if options.speed <= 0:
        raise ConfigError("--speed must be positive")
    accounts, credentials = _credentials(options, environ)
    return Settings(
        port=options.port,
        host=options.host,
        sources=_sources(options),
        speed=options.speed,
        accounts=accounts,
        credentials=credentials,
        deposits=_deposits(options.deposit or _DEFAULT_DEPOSITS, accounts),
        fees=FeeSchedule(
            maker=_decimal(options.maker_fee, "--maker-fee"),
            taker=_decimal(options.taker_fee, "--taker-fee"),
            token="" if options.fee_in == "received" else options.fee_in,
        ),
        log=options.log,
        weight_limit=options.weight_limit,
        max_open_orders=options.max_open_orders,
        control_token=_control_token(options.control_token_env, environ),
    )


async def serve(given: Settings) -> None:
    """Runs a venue until SIGTERM or SIGINT."""
    venue = Venue(given)
    try:
        await venue.start()
        running = asyncio.create_task(venue.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        await venue.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        given = settings(arguments, os.environ)
        asyncio.run(serve(given))
    except OpenbellError as error:
        log("error", "failed", **error.as_dict())
        sys.stderr.write(f"openbell-sim: {error.message}\n")
        return error.exit_code
    except OSError as error:
        log("error", "failed", message=str(error))
        sys.stderr.write(f"openbell-sim: {error}\n")
        return 1
    return 0
