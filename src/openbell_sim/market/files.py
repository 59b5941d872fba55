"""Market files as they are named on a command line, made into sources.

A file's format is told by its content. Its symbols are the venue's where the venue has one of that
name, or one of the same base and quote currency: `ETHUSDT` is `ETH/USDT` and `ETH-USDT`, `XBTUSDT`
is `BTCUSDT`. A file with one symbol can be given another one: `EUR_USD=eurusd.csv`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import orjson

from openbell.errors import ConfigError
from openbell_sim.instruments import Instrument, inferred
from openbell_sim.market.damage import Damage
from openbell_sim.market.file import UNNAMED, MarketFile
from openbell_sim.market.lines import lines
from openbell_sim.market.parquet import MAGIC, ParquetRows
from openbell_sim.market.recording import Recording
from openbell_sim.market.replay import Part, Replay, Warn
from openbell_sim.market.table import Table
from openbell_sim.market.text_rows import CsvRows, JsonLineRows, JsonRows


def market_file(path: Path) -> MarketFile:
    """Raises ConfigError for a file that holds no market."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if magic == MAGIC:
        return Table(path, ParquetRows(path))
    told: list[str] = []
    _, first = next(lines(path, Damage(told.append)), (0, b""))
    if not first:
        raise ConfigError(f"{path} cannot be read: {'; '.join(told) or 'it is empty'}")
    first = first.removeprefix(b"\xef\xbb\xbf").strip()
    if first[:1].isdigit() and first.partition(b" ")[2].startswith(b"{"):
        return Recording(path)
    if first[:1] in (b"{", b"["):
        return Table(path, JsonLineRows(path) if _is_object_alone(first) else JsonRows(path))
    return Table(path, CsvRows(path))


def _is_object_alone(line: bytes) -> bool:
    """Whether the line is a whole object with plain values: a row, not a document."""
    try:
        value = orjson.loads(line)
    except ValueError:
        return False
    return isinstance(value, dict) and not any(isinstance(v, list | dict) for v in value.values())


def replays(
    texts: Iterable[str], known: Mapping[str, Instrument], *, infer: bool, warn: Warn
) -> list[Replay]:
    """From `[SYMBOL=]FILE`. Files of the same symbols are played one after the other. `known` are
    the venue's instruments by symbol; with `infer`, others are made from what the file holds.
    Raises ConfigError."""
    parts: dict[tuple[str, ...], list[Part]] = {}
    for text in texts:
        path, symbol = _split(text)
        file = market_file(path)
        part = Part(file, _instruments(file, symbol, known=known, infer=infer, warn=warn))
        parts.setdefault(tuple(sorted(i.symbol for i in part.instruments.values())), []).append(
            part
        )
    _check_apart(parts)
    return [Replay(group, warn) for group in parts.values()]


def _split(text: str) -> tuple[Path, str | None]:
    symbol, equals, path = text.partition("=")
    # A file may have an equals sign in its name.
    return (Path(path), symbol) if equals and not Path(text).exists() else (Path(text), None)


def _check_apart(parts: Mapping[tuple[str, ...], Sequence[Part]]) -> None:
    """A symbol has one market."""
    found: dict[str, Path] = {}
    for symbols, group in parts.items():
        path = group[0].file.path
        for symbol in symbols:
            if symbol in found:
                raise ConfigError(
                    f"{symbol} is in both {found[symbol]} and {path}, whose other symbols differ",
                    hint="files are played one after the other where they have the same symbols",
                )
            found[symbol] = path


def _instruments(
    file: MarketFile,
    wanted: str | None,
    *,
    known: Mapping[str, Instrument],
    infer: bool,
    warn: Warn,
) -> dict[str, Instrument]:
    """By the file's symbols. Raises ConfigError."""
    if wanted is not None and len(file.symbols) > 1:
        raise ConfigError(
            f"{wanted}={file.path}: it has {len(file.symbols)} symbols, {', '.join(file.symbols)}",
            hint="give the file without a symbol, or a file of one symbol",
        )
    found: dict[str, Instrument] = {}
    for symbol in file.symbols:
        name = wanted or symbol
        instrument = _known(name, known)
        if instrument is None and infer and name != UNNAMED:
            instrument = _inferred(file, symbol, name)
        if instrument is not None:
            file.check(symbol, instrument)
            found[symbol] = instrument
    missing = [symbol for symbol in file.symbols if symbol not in found]
    if not found:
        what = wanted or ", ".join(missing)
        raise ConfigError(
            f"{file.path} is of {what}, which is not known here"
            if what
            else f"{file.path} does not say which symbol it is of",
            hint=f"write SYMBOL={file.path}, with one of {', '.join(known)}",
        )
    if missing:
        warn(file.path, f"{', '.join(missing)}: not known here, left out")
    return found


def _known(name: str, known: Mapping[str, Instrument]) -> Instrument | None:
    if name in known:
        return known[name]
    alike = [item for item in known.values() if _plain(item.base + item.quote) == _plain(name)]
    return alike[0] if len(alike) == 1 else None


def _plain(name: str) -> str:
    letters = "".join(filter(str.isalnum, name.upper()))
    return "BTC" + letters[3:] if letters.startswith("XBT") else letters


def _inferred(file: MarketFile, symbol: str, name: str) -> Instrument:
    try:
        return inferred(name, *file.samples(symbol))
    except ValueError as error:
        raise ConfigError(f"{file.path}: {error}") from error
