"""Statistical arbitrage: the price ratio of two symbols, traded back to its mean."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, model_validator

from openbell.config.units import Amount, Seconds
from openbell.domain.market import Quote
from openbell.trading.strategies.targets import step_towards
from openbell.trading.strategy import Action, Strategy, StrategyParams, View

_GAP_INTERVALS = 20
"""After a silence of so many sample intervals the window starts anew: its mean is of another market."""


class StatArb(Strategy):
    """Trades the first symbol against the second, its reference.

    The ratio of their mids is sampled every `sample_every`; its z-score is its distance from the
    mean of the last `window` samples, in standard deviations.

        z >= entry_z    short the first symbol  (and long the reference, where `hedged`)
        z <= -entry_z   long the first symbol   (and short the reference, where `hedged`)
        |z| <= exit_z   flat

    A trade that the desk closed (a flatten) is over: the next one waits for the next entry. After a
    restart the strategy goes on from the position it holds.

    A spot account sells short only what it holds: give the venue `holdings` in both currencies,
    or set `long_only`.
    """

    class Params(StrategyParams):
        quantity: Annotated[Amount, Field(gt=0)]
        """Position in the first symbol while in a trade, in its base currency."""
        window: Annotated[int, Field(ge=5)] = 120
        """Samples."""
        sample_every: Seconds = 1.0
        entry_z: Annotated[Amount, Field(gt=0)] = Decimal(2)
        exit_z: Annotated[Amount, Field(ge=0)] = Decimal("0.5")
        hedged: bool = True
        """Trade the reference as well, for the same value the other way."""
        long_only: bool = False
        slippage_bps: Annotated[Amount, Field(ge=0)] = Decimal(10)
        """How far past the best price an order may fill."""

        @model_validator(mode="after")
        def _consistent(self) -> StatArb.Params:
            if self.exit_z >= self.entry_z:
                raise ValueError("exit_z must be below entry_z, or every entry is an exit")
            if self.long_only and self.hedged:
                raise ValueError("long_only and hedged exclude each other: a hedge sells")
            return self

    params: Params

    def __init__(self, name: str, symbols: tuple[str, ...], params: Params) -> None:
        if len(symbols) != 2:
            raise ValueError(
                f"statistical arbitrage takes two symbols, the traded one and its reference, "
                f"not {len(symbols)}"
            )
        super().__init__(name, symbols, params)
        self._samples: deque[float] = deque(maxlen=params.window)
        self._sampled_ns = 0
        self._targets: dict[str, Decimal] | None = None
        """Wanted positions; None until the first look at what is held."""
        self._reached = False
        """Every leg has been at its target."""

    def on_quote(self, quote: Quote, view: View) -> Iterable[Action]:
        traded, reference = (view.quotes.get(symbol) for symbol in self.symbols)
        if traded is None or reference is None:
            return
        if self._targets is None:
            self._targets = {symbol: view.position(symbol) for symbol in self.symbols}
        elif self._reached and not any(view.position(symbol) for symbol in self.symbols):
            self._aim({})
        z = self._sample(traded, reference, quote.received_ns)
        if z is not None:
            self._decide(z, traded, reference)
        actions = [
            action
            for symbol, target in self._targets.items()
            for action in step_towards(target, symbol, view, slippage_bps=self.params.slippage_bps)
        ]
        self._reached = self._reached or not (actions or view.open_orders)
        yield from actions

    def _sample(self, traded: Quote, reference: Quote, at_ns: int) -> float | None:
        """The z-score, where a sample was due and the window is full."""
        interval_ns = int(self.params.sample_every * 1e9)
        if at_ns - self._sampled_ns < interval_ns:
            return None
        if at_ns - self._sampled_ns > _GAP_INTERVALS * interval_ns:
            self._samples.clear()
        self._sampled_ns = at_ns
        # A statistic, not money: floats are exact enough and the same on every run.
        ratio = float(traded.mid / reference.mid)
        self._samples.append(ratio)
        if len(self._samples) < self.params.window:
            return None
        deviation = statistics.pstdev(self._samples)
        return (ratio - statistics.fmean(self._samples)) / deviation if deviation else None

    def _decide(self, z: float, traded: Quote, reference: Quote) -> None:
        params = self.params
        if abs(z) <= params.exit_z:
            self._aim({})
        elif abs(z) >= params.entry_z and not any((self._targets or {}).values()):
            sign = -1 if z > 0 else 1
            if sign < 0 and params.long_only:
                return
            # The hedge is sized once, at the entry: following the ratio would trade every sample.
            hedge = params.quantity * traded.mid / reference.mid if params.hedged else Decimal(0)
            self._aim({self.symbols[0]: sign * params.quantity, self.symbols[1]: -sign * hedge})

    def _aim(self, targets: dict[str, Decimal]) -> None:
        """Want these positions; flat where none is named."""
        self._targets = {symbol: targets.get(symbol, Decimal(0)) for symbol in self.symbols}
        self._reached = False

    def state(self) -> dict[str, Any]:
        return {"samples": list(self._samples), "sampled_ns": self._sampled_ns}

    def restore(self, state: dict[str, Any]) -> None:
        self._samples.extend(float(sample) for sample in state["samples"])
        self._sampled_ns = int(state["sampled_ns"])
