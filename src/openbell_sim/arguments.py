"""The command line of `openbell-sim`, read into a venue's settings."""

from __future__ import annotations

import argparse
import ipaddress
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from openbell import __version__
from openbell.errors import ConfigError
from openbell_sim import defaults
from openbell_sim.argument_amounts import currencies_of, deposits_of, fees_of
from openbell_sim.faces import FACES, face_kind
from openbell_sim.faces.port import FaceKind
from openbell_sim.faults.document import PlanDocument, read_plan
from openbell_sim.keys import Credentials
from openbell_sim.log import log
from openbell_sim.market.files import replays
from openbell_sim.market.source import MarketSource
from openbell_sim.schedule import read_calendar
from openbell_sim.server import Settings

_DESCRIPTION = """\
Starts a simulated venue on loopback: a real matching engine behind the protocol of a real venue.
Clients of that venue work against it when their URLs are changed.

The market comes from recorded data (--market, as often as there are files) and, for symbols
without any, from a seeded generator. Orders of the accounts and of the crowd meet
in the same books.

Accounts' keys come from the environment, never from the command line. Without them the venue
serves market data and refuses private calls.
"""

_EXAMPLES = """\
examples:
  openbell-sim --port 7001
      Binance spot: four generated markets, the account `main`, keys from OPENBELL_SIM_KEY and
      OPENBELL_SIM_SECRET
  openbell-sim --face kraken --port 7002
      another venue; `openbell-sim --face kraken --help` tells its markets and its keys
  openbell-sim --market ethusdt.gz --speed 2
      a recording, twice as fast; the other default symbols are generated
  openbell-sim --market ethusdt.gz --symbols ""
      nothing but the recording
  openbell-sim --face oanda --market USD_JPY=ticks.csv --speed max
      recorded quotes of USD_JPY as fast as they can be played
  openbell-sim --closing-pair STOP_KEY:STOP_SECRET
      a second key of the account, which may cancel and close and enter no order
  openbell-sim --faults plan.toml
      a venue that does wrong by plan: lost replies, refused cancels, missing events, ...
  openbell-sim --port 7001 --log state/venue.log --deposit USDT=50000
      orders and balances survive a restart, a kill -9 included

The first line that says "event":"ready" holds the port; --port 0 takes any free one.
GET /sim/v1/orders, /sim/v1/fills and /sim/v1/positions tell the venue's own truth.
SIGTERM or SIGINT stops the venue; open orders stay open in its --log.
"""


def settings(arguments: Sequence[str] | None, environ: Mapping[str, str]) -> Settings:
    """Raises UsageError for a face that does not exist, ConfigError for what cannot be used;
    argparse exits by itself."""
    # The face is read first: what the other options mean by default is the face's to say.
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _add_face(first)
    kind = face_kind(first.parse_known_args(arguments)[0].face)
    options = _parser(kind).parse_args(arguments)
    _check_numbers(options, kind)
    accounts, credentials = _credentials(kind, options, environ)
    sources = _sources(kind, options)
    currencies = currencies_of(kind, sources)
    control_token = _control_token(options.control_token_env, environ)
    _warn_of_open_control(options.host, control_token)
    return Settings(
        face=kind.name,
        port=options.port,
        host=options.host,
        sources=sources,
        speed=_speed(options.speed),
        accounts=accounts,
        credentials=credentials,
        deposits=(
            defaults.deposits(kind, accounts)
            if options.deposit is None
            else deposits_of(options.deposit, accounts, currencies)
        ),
        fees=fees_of(kind, options, currencies),
        log=options.log,
        limit_scale=options.limit_scale,
        weight_limit=options.weight_limit,
        max_open_orders=options.max_open_orders,
        calendar=None if options.session is None else read_calendar(options.session),
        faults=PlanDocument() if options.faults is None else read_plan(options.faults),
        control_token=control_token,
    )


def _check_numbers(options: argparse.Namespace, kind: FaceKind) -> None:
    if not 0 <= options.port <= 65535:
        raise ConfigError(f"--port {options.port}: a port is 1 to 65535, or 0 for any free one")
    if not 0 <= options.limit_scale < math.inf:
        raise ConfigError("--limit-scale must be a number that is not negative")
    for name in ("max_open_orders", "weight_limit"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1")
    if options.weight_limit is not None and not kind.weighs_requests:
        raise ConfigError(
            f"--weight-limit: {kind.title} gives requests no weight",
            hint="--limit-scale multiplies the budgets that it has",
        )


def _add_face(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--face",
        default="binance",
        metavar="NAME",
        help=f"the venue whose protocol is served: {', '.join(FACES)} (default: binance)",
    )


def _parser(kind: FaceKind) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="openbell-sim",
        description=_DESCRIPTION,
        epilog=f"credentials of {kind.title}: {kind.credentials}\n\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"openbell-sim {__version__}")
    _add_face(parser)
    _add_server(parser.add_argument)
    _add_market(parser.add_argument, kind)
    _add_accounts(parser.add_argument, kind)
    _add_limits(parser, kind)
    _add_troubles(parser.add_argument)
    return parser


def _add_server(add: Callable[..., object]) -> None:
    add("--port", type=int, default=7001, help="0: any free one (default: 7001)")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add(
        "--log",
        type=Path,
        metavar="FILE",
        help="order log: every order, fill, cancel and deposit; without it all is in memory",
    )
    add(
        "--control-token-env",
        metavar="NAME",
        help="environment variable with the bearer token that /sim/v1/control asks for "
        "(default: none is asked for)",
    )


def _add_market(add: Callable[..., object], kind: FaceKind) -> None:
    add(
        "--market",
        action="append",
        default=[],
        metavar="[SYMBOL=]FILE",
        help="recorded data, played again and again: Binance WebSocket messages (lines `<receive "
        "time> <json>`), trades or quotes as csv, JSON or parquet; gzipped or plain, told by "
        "content. SYMBOL is the venue's; without it the file must name one that the venue has. "
        "Files of the same symbol are played one after the other",
    )
    add(
        "--symbols",
        metavar="A,B",
        help="symbols that are generated unless they are recorded, as the venue writes them "
        f"(default: {','.join(kind.symbols)})",
    )
    add("--seed", type=int, default=1, help="of the generated markets (default: 1)")
    add(
        "--speed",
        default="1",
        metavar="X|max",
        help="2 plays the market twice as fast, max as fast as it can be played (default: 1); "
        "trading hours (--session) and all other times stay this machine's",
    )


def _add_accounts(add: Callable[..., object], kind: FaceKind) -> None:
    deposits = " ".join(f"{currency}={amount}" for currency, amount in kind.deposits.items())
    add(
        "--deposit",
        action="append",
        metavar="[ACCOUNT:]CURRENCY=AMOUNT",
        help="what an account begins with; ignored where the order log knows the account "
        f"(default: {deposits} for every account)",
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
    add(
        "--closing-pair",
        action="append",
        default=[],
        metavar="[ACCOUNT:]KEY_ENV:SECRET_ENV",
        help="the variables with a second key and secret of an account (default: main), which may "
        "read, cancel and close, and is refused with the venue's own error where it enters an order",
    )
    fees = kind.rules.fees
    for side, rate in (("maker", fees.maker), ("taker", fees.taker)):
        add(f"--{side}-fee", metavar="RATE", help=f"of the notional (default: {rate})")
    add(
        "--fee-in",
        metavar="received|quote|CURRENCY",
        help="take fees in what a fill brings, in the quote currency, or in this one (BNB: with "
        f"Binance's 25 %% off) while the account has some of it (default: {fees.fee_in})",
    )


def _add_limits(parser: argparse.ArgumentParser, kind: FaceKind) -> None:
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument(
        "--limit-scale",
        type=float,
        default=1.0,
        metavar="X",
        help="multiplies every request budget that the venue documents (default: 1)",
    )
    limits.add_argument(
        "--no-limits",
        dest="limit_scale",
        action="store_const",
        const=0.0,
        help="no request is refused for being one too many",
    )
    parser.add_argument(
        "--weight-limit",
        type=int,
        help="Binance: request weight per minute and address; more is answered 429 "
        "(default: what Binance documents)",
    )
    parser.add_argument(
        "--max-open-orders",
        type=int,
        help=f"per account and symbol (default: {kind.rules.max_open_orders})",
    )


def _add_troubles(add: Callable[..., object]) -> None:
    add(
        "--session",
        type=Path,
        metavar="FILE",
        help="calendar of trading hours (TOML or JSON); without it the market is always open. It goes "
        "by this machine's clock, whatever --speed and the times of recordings are",
    )
    add(
        "--faults",
        type=Path,
        metavar="FILE",
        help="fault plan (TOML or JSON): what the venue does wrong, and when; "
        "POST /sim/v1/control/faults takes the same document",
    )


def _speed(text: str) -> float:
    try:
        speed = math.inf if text == "max" else float(text)
    except ValueError:
        speed = math.nan
    if not speed > 0:
        raise ConfigError(f"--speed: {text!r} is neither a positive number nor max")
    return speed


def _credentials(
    kind: FaceKind, options: argparse.Namespace, environ: Mapping[str, str]
) -> tuple[list[str], list[Credentials]]:
    """The accounts, and what is set of their credentials. Raises ConfigError."""
    accounts = ["main"]
    wanted = [("main", options.key_env, options.secret_env, True)]
    for text in options.account:
        parts = text.split(":")
        if len(parts) != 3 or not all(parts):
            raise ConfigError(f"--account {text}: write NAME:KEY_ENV:SECRET_ENV")
        if parts[0] in accounts:
            raise ConfigError(
                f"--account {text}: there is an account {parts[0]} already",
                hint="--key-env and --secret-env name the variables of account main",
            )
        wanted.append((parts[0], parts[1], parts[2], True))
        accounts.append(parts[0])
    for text in options.closing_pair:
        parts = text.split(":")
        if len(parts) == 2:
            parts.insert(0, "main")
        if len(parts) != 3 or not all(parts):
            raise ConfigError(f"--closing-pair {text}: write KEY_ENV:SECRET_ENV or with ACCOUNT:")
        if parts[0] not in accounts:
            raise ConfigError(f"--closing-pair {text}: there is no account {parts[0]}")
        wanted.append((parts[0], parts[1], parts[2], False))
    return accounts, _those_that_are_set(kind, wanted, environ)


def _those_that_are_set(
    kind: FaceKind, wanted: Iterable[tuple[str, str, str, bool]], environ: Mapping[str, str]
) -> list[Credentials]:
    """Of `(account, variable of the key, of the secret, whether it may trade)`."""
    credentials: list[Credentials] = []
    for name, key_env, secret_env, may_trade in wanted:
        key, secret = environ.get(key_env, ""), environ.get(secret_env, "")
        if key and any(known.key == key for known in credentials):
            raise ConfigError(f"{key_env}: this key is there already; keys tell accounts apart")
        if secret and any(known.secret == secret for known in credentials) and not may_trade:
            raise ConfigError(f"{secret_env}: a closing pair has a secret of its own")
        if secret and (problem := kind.secret_problem(secret)):
            raise ConfigError(f"{secret_env}: {problem}", hint=f"wanted: {kind.credentials}")
        if key and secret:
            credentials.append(Credentials(name, key, secret, may_trade=may_trade))
        else:
            log(
                "warning",
                "no_credentials",
                account=name,
                variables=[key_env, secret_env],
                wanted=kind.credentials,
            )
    return credentials


def _control_token(name: str | None, environ: Mapping[str, str]) -> str:
    if name is None:
        return ""
    if not environ.get(name):
        raise ConfigError(f"--control-token-env {name}: that variable is not set")
    return environ[name]


def _warn_of_open_control(host: str, token: str) -> None:
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback and not token:
        log(
            "warning",
            "control_is_open",
            host=host,
            text="whoever reaches this address may use /sim/v1/control: move markets, break the "
            "venue, give money; --control-token-env asks for a token",
        )


def _sources(kind: FaceKind, options: argparse.Namespace) -> list[MarketSource]:
    """What is recorded, and a generator for the other symbols. Raises ConfigError."""
    sources: list[MarketSource] = []
    sources += replays(
        options.market, kind.instruments, infer=kind.takes_any_symbol, warn=_warn_of_damage
    )
    recorded = {instrument.symbol for source in sources for instrument in source.instruments}
    wanted = kind.symbols if options.symbols is None else options.symbols.split(",")
    symbols = [symbol for symbol in dict.fromkeys(wanted) if symbol and symbol not in recorded]
    if symbols:
        sources.append(defaults.generated(kind, symbols, options.seed))
    if not sources:
        raise ConfigError("a venue needs a market: give --market or --symbols")
    return sources


def _warn_of_damage(path: Path, text: str) -> None:
    log("warning", "recording_damaged", file=path, text=text)
