"""What all models of desk.toml are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,47}$")]
"""A service's, venue's or strategy's name."""

Symbol = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{2,12}/[A-Z0-9]{2,12}$")]
"""A unified symbol, base and quote: `BTC/USDT`."""

Port = Annotated[int, Field(ge=1, le=65535)]

EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]*$")]


class Model(BaseModel):
    # A part of the desk file is read with the whole of it: a validator of its own is made only where it is
    # read, or made, by itself.
    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", populate_by_name=True, defer_build=True
    )
