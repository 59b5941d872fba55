"""From desk.toml to a strategy: what is found, and how clearly the rest is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from openbell.config.loader import load_desk
from openbell.config.models import Strategy as Declared
from openbell.errors import ConfigError
from openbell.trading.loading import load_strategy, strategy_problems
from openbell.trading.strategies.momentum import Momentum

PAPER = Path(__file__).parents[3] / "desks" / "paper"
MOMENTUM = "openbell.trading.strategies.momentum:Momentum"


def declared(type_: str = MOMENTUM, **params: object) -> Declared:
    return Declared(type=type_, venue="sim", symbols=("LTC/USDT",), params=params)


def test_a_strategy_gets_its_validated_parameters() -> None:
    strategy = load_strategy("m", declared(quantity="2", sample_every="250ms"))
    assert isinstance(strategy, Momentum)
    assert (strategy.name, strategy.symbols) == ("m", ("LTC/USDT",))
    assert strategy.params.sample_every == 0.25


@pytest.mark.parametrize(
    ("type_", "params", "said"),
    [
        (MOMENTUM, {}, "quantity: is missing"),
        (MOMENTUM, {"quantity": 0.5}, "write amounts as text"),
        (MOMENTUM, {"quantity": "1", "fats": 3}, "fats: is not a parameter"),
        (MOMENTUM, {"quantity": "1", "fast": 50}, "fast must be shorter than slow"),
        ("openbell.trading.strategies.momentum:Momentun", {}, "no strategy class Momentun"),
        ("no_such_module:X", {}, "cannot import no_such_module"),
        ("openbell.trading.strategies.momentum:Trend", {}, "no strategy class Trend"),
    ],
)
def test_what_is_wrong_is_said(type_: str, params: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_strategy("m", declared(type_, **params))
    assert said in caught.value.message
    assert "strategy m" in caught.value.message


def test_a_class_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ConfigError) as caught:
        load_strategy("m", declared("openbell.trading.strategies.momentum:Momentun"))
    assert "Momentum" in caught.value.hint


def test_a_constructor_that_raises_is_an_error_of_the_desk_file() -> None:
    pair = "openbell.trading.strategies.stat_arb:StatArb"
    with pytest.raises(ConfigError, match="takes two symbols"):
        load_strategy("pair", declared(pair, quantity="1"))


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nsys.exit(7)\n",
        (
            "import sys\nfrom openbell.trading.strategy import Strategy\n"
            "class Mine(Strategy):\n    def __init__(self, *_): sys.exit(7)\n"
        ),
        "from openbell.trading.strategy import Strategy\nclass Mine(Strategy):\n    Params = None\n",
    ],
)
def test_a_module_or_class_that_exits_is_an_error_of_the_desk_file(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "exits_for_this_test", raising=False)
    (tmp_path / "exits_for_this_test.py").write_text(code)
    with pytest.raises(ConfigError, match="strategy m"):
        load_strategy("m", declared("exits_for_this_test:Mine"))


def test_the_paper_desk_has_strategies_without_problems() -> None:
    assert list(strategy_problems(load_desk(PAPER))) == []


def test_a_class_beside_desk_toml_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine_for_this_test.py").write_text(
        "from openbell.trading.strategy import Strategy\nclass Mine(Strategy): pass\n"
    )
    (tmp_path / "desk.toml").write_text(
        """
        [desk]
        name = "own"
        [venues.sim]
        url = "http://127.0.0.1:7001"
        symbols = ["BTC/USDT"]
        [strategies.mine]
        type = "mine_for_this_test:Mine"
        venue = "sim"
        symbols = ["BTC/USDT"]
        [strategies.broken]
        type = "mine_for_this_test:Other"
        venue = "sim"
        symbols = ["BTC/USDT"]
        [services.x]
        role = "engine"
        port = 1
        command = ["true"]
        """
    )
    (problem,) = strategy_problems(load_desk(tmp_path))
    assert problem.key == ("strategies", "broken")
    assert "Mine" in problem.hint
