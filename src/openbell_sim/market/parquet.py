"""Rows of a parquet file, by pyarrow: the extra `openbell[parquet]`, loaded when it is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from openbell.errors import ConfigError
from openbell_sim.market.damage import Damage

MAGIC = b"PAR1"
_BATCH = 1000
"""Rows read at a time: so few that reading them does not hold up the venue."""


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            f"{path} is a parquet file, and pyarrow, which reads such files, is not installed",
            hint="install it with: pip install 'openbell[parquet]'",
        ) from error
    return pyarrow


class ParquetRows:
    def __init__(self, path: Path) -> None:
        """Raises ConfigError for a file that is none, or where pyarrow is not installed."""
        self._path = path
        self._pyarrow = _pyarrow(path)
        try:
            with self._pyarrow.parquet.ParquetFile(path) as file:
                self.names: Sequence[str] = file.schema_arrow.names
        except (OSError, self._pyarrow.ArrowException) as error:
            raise ConfigError(f"{path} cannot be read as parquet: {error}") from error

    def rows(self, damage: Damage) -> Iterator[tuple[int, Sequence[object]]]:
        number = 0
        try:
            with self._pyarrow.parquet.ParquetFile(self._path) as file:
                for batch in file.iter_batches(_BATCH):
                    columns = [self._plain(column).to_pylist() for column in batch.columns]
                    for values in zip(*columns, strict=True):
                        number += 1
                        yield number, values
        except (OSError, self._pyarrow.ArrowException) as error:
            damage.cut_short(str(error))

    def _plain(self, column: Any) -> Any:
        """Times as whole nanoseconds: Python's datetime would cut them to microseconds."""
        types = self._pyarrow.types
        if types.is_timestamp(column.type):
            nanoseconds = self._pyarrow.timestamp("ns", tz=column.type.tz)
            return column.cast(nanoseconds).cast(self._pyarrow.int64())
        return column
