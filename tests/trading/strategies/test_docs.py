"""The pages about strategies say what is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from openbell.domain.orders import Side
from openbell.trading.strategies.market_making import MarketMaking
from openbell.trading.strategies.momentum import Momentum
from openbell.trading.strategies.stat_arb import StatArb
from openbell.trading.strategy import Cancel, Strategy

DOCS = Path(__file__).parents[3] / "docs"


def test_the_how_tos_strategy_works_as_it_says(bench: Any) -> None:
    page = (DOCS / "how-to" / "write-a-strategy.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    names: dict[str, Any] = {"__name__": "my_strategies"}
    exec(compile(code, "write-a-strategy.md", "exec", dont_inherit=True), names)
    market = bench(names["Ladder"], ("BTC/USDT",), quantity="0.001")
    (order,) = market.quote("BTC/USDT", "60000", "60001")
    assert (order.side, str(order.price)) == (Side.BUY, "59880.00")
    assert market.quote("BTC/USDT", "60000", "60001") == []
    (cancel,) = market.quote("BTC/USDT", "61000", "61001")
    assert isinstance(cancel, Cancel)


@pytest.mark.parametrize("strategy", [MarketMaking, StatArb, Momentum])
def test_every_parameter_is_in_the_reference_with_its_default(strategy: type[Strategy]) -> None:
    page = (DOCS / "reference" / "strategies.md").read_text()
    section = page.partition(f":{strategy.__name__}\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE))
    assert set(rows) == set(strategy.Params.model_fields)
    for name, field in strategy.Params.model_fields.items():
        told = rows[name].strip().strip('`"')
        if field.is_required():
            assert told == "required"
        elif name == "sample_every":
            assert told == f"{field.default:g}s"
        else:
            assert told == str(field.default).lower()
