"""Momentum: follow the crossing of a fast and a slow moving average, with a trailing stop."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Any

from pydantic import Field, model_validator

from openbell.config.units import Amount, Seconds
from openbell.domain.market import Quote
from openbell.trading.strategies.targets import BPS, step_towards
from openbell.trading.strategy import Action, Strategy, StrategyParams, View

_GAP_INTERVALS = 20
"""After a silence of so many sample intervals the averages start anew, and no trend is known: what
is held is closed, not kept on the word of another market."""


class Trend(IntEnum):
    DOWN = -1
    NONE = 0
    UP = 1


class Momentum(Strategy):
    """Holds `quantity` of its (only) symbol in the direction of the trend.

    Each average is exponential: `ema += (mid - ema) * 2 / (span + 1)` at every sample. The trend
    is up while the fast average is more than `threshold_bps` above the slow one, down while it is
    so far below; in between the last trend goes on, so that noise around a crossing is not traded.

    Long in an up-trend; in a down-trend flat, or short where `short` is set. Once the mid has
    fallen `stop_bps` from its best since the trade began, the position is closed, and the next
    trade waits for the next trend.
    """

    class Params(StrategyParams):
        quantity: Annotated[Amount, Field(gt=0)]
        """Position while in a trend, in the base currency."""
        fast: Annotated[int, Field(ge=1)] = 10
        """Span of the fast average, in samples."""
        slow: Annotated[int, Field(ge=2)] = 30
        """Span of the slow average, in samples; also how many are seen before the first trade."""
        sample_every: Seconds = 1.0
        threshold_bps: Annotated[Amount, Field(ge=0)] = Decimal(1)
        stop_bps: Annotated[Amount, Field(gt=0)] = Decimal(50)
        short: bool = False
        """Sell short in a down-trend; on a spot account only what it holds can be sold."""
        slippage_bps: Annotated[Amount, Field(ge=0)] = Decimal(10)

        @model_validator(mode="after")
        def _ordered(self) -> Momentum.Params:
            if self.fast >= self.slow:
                raise ValueError("fast must be shorter than slow")
            return self

    params: Params

    def __init__(self, name: str, symbols: tuple[str, ...], params: Params) -> None:
        if len(symbols) != 1:
            raise ValueError(f"momentum takes one symbol, not {len(symbols)}")
        super().__init__(name, symbols, params)
        self._fast = 0.0
        self._slow = 0.0
        self._samples = 0
        self._sampled_ns = 0
        self._trend = Trend.NONE
        self._stopped = False
        self._best: Decimal | None = None

    def on_quote(self, quote: Quote, view: View) -> Iterable[Action]:
        self._sample(quote)
        self._trail(quote.mid)
        direction = 0 if self._stopped else int(self._trend)
        if not self.params.short:
            direction = max(direction, 0)
        yield from step_towards(
            direction * self.params.quantity,
            quote.symbol,
            view,
            slippage_bps=self.params.slippage_bps,
        )

    def _sample(self, quote: Quote) -> None:
        interval_ns = int(self.params.sample_every * 1e9)
        silence_ns = quote.received_ns - self._sampled_ns
        if silence_ns < interval_ns:
            return
        if silence_ns > _GAP_INTERVALS * interval_ns:
            self._samples, self._trend = 0, Trend.NONE
        self._sampled_ns = quote.received_ns
        # A statistic, not money: floats are exact enough and the same on every run.
        mid = float(quote.mid)
        if self._samples == 0:
            self._fast = self._slow = mid
        self._samples += 1
        self._fast += (mid - self._fast) * 2 / (self.params.fast + 1)
        self._slow += (mid - self._slow) * 2 / (self.params.slow + 1)
        if self._samples >= self.params.slow:
            self._follow((self._fast / self._slow - 1) * 10_000)

    def _follow(self, distance_bps: float) -> None:
        if abs(distance_bps) <= self.params.threshold_bps:
            return
        trend = Trend.UP if distance_bps > 0 else Trend.DOWN
        if trend is not self._trend:
            self._trend, self._stopped, self._best = trend, False, None

    def _trail(self, mid: Decimal) -> None:
        """Note the best mid of the trend, and stop once it is `stop_bps` behind."""
        if self._trend is Trend.NONE or self._stopped:
            return
        sign = int(self._trend)
        if self._best is None or (mid - self._best) * sign > 0:
            self._best = mid
        elif (self._best - mid) * sign >= self._best * self.params.stop_bps * BPS:
            self._stopped = True

    def state(self) -> dict[str, Any]:
        return {
            "fast": self._fast,
            "slow": self._slow,
            "samples": self._samples,
            "sampled_ns": self._sampled_ns,
            "trend": int(self._trend),
            "stopped": self._stopped,
            "best": None if self._best is None else str(self._best),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._fast, self._slow = float(state["fast"]), float(state["slow"])
        self._samples, self._sampled_ns = int(state["samples"]), int(state["sampled_ns"])
        self._trend, self._stopped = Trend(state["trend"]), bool(state["stopped"])
        self._best = None if state["best"] is None else Decimal(state["best"])
