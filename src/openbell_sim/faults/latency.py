"""How long requests wait before they are carried out."""

from __future__ import annotations

import random
from enum import StrEnum

import msgspec


class LatencyModel(StrEnum):
    FIXED = "fixed"
    UNIFORM = "uniform"
    LOGNORMAL = "lognormal"


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """In milliseconds."""

    model: LatencyModel = LatencyModel.FIXED
    ms: float = 0.0
    """FIXED: always. LOGNORMAL: the median."""
    low_ms: float = 0.0
    high_ms: float = 0.0
    """UNIFORM: between these."""
    sigma: float = 0.5
    """LOGNORMAL: of the logarithm. 0.5 puts the 99th percentile at 3.2 times the median."""
    seed: int = 1

    def __post_init__(self) -> None:
        if min(self.ms, self.low_ms, self.high_ms, self.sigma) < 0:
            raise ValueError("ms, low_ms, high_ms and sigma must not be negative")
        if self.low_ms > self.high_ms:
            raise ValueError("low_ms must not be above high_ms")

    def draw_s(self, chance: random.Random) -> float:
        match self.model:
            case LatencyModel.FIXED:
                ms = self.ms
            case LatencyModel.UNIFORM:
                ms = chance.uniform(self.low_ms, self.high_ms)
            case LatencyModel.LOGNORMAL:
                ms = self.ms * chance.lognormvariate(0, self.sigma)
        return ms / 1000
