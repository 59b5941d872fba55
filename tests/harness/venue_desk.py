"""A whole desk on any simulated venues: the faces as services, market data, engine, one strategy for
each venue."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from tests.harness.paper_desk import PaperDesk
from tests.harness.ports import free_ports
from tests.venues.subjects import Subject

_STRATEGY = '''\
"""Buys once, rests one order far below, and sits still."""

from collections.abc import Iterable
from decimal import Decimal

from openbell.config.units import Amount
from openbell.domain.market import Quote
from openbell.domain.orders import Side
from openbell.trading.strategy import Action, Strategy, StrategyParams, Submit, View


class BuyAndRest(Strategy):
    class Params(StrategyParams):
        quantity: Amount
        tick: Amount

    params: Params

    def on_quote(self, quote: Quote, view: View) -> Iterable[Action]:
        """What is refused, before the desk trades, is asked for again at the next quote."""
        if not view.open_orders:
            low = quote.bid_px * Decimal("0.98") // self.params.tick * self.params.tick
            yield Submit(quote.symbol, Side.BUY, self.params.quantity, price=low)
        elif len(view.open_orders) == 1 and view.position(quote.symbol) <= 0:
            yield Submit(quote.symbol, Side.BUY, self.params.quantity)
'''

_DESK = """\
[desk]
name = "any"
[controller]
port = {controller}
[closing]
flatten = "aggressive"
orders = "cancel"
"""

_VENUE = """\
[venues.{name}]
adapter = "{adapter}"
url = "http://127.0.0.1:{port}"
symbols = ["{symbol}"]
poll_every = "300ms"
{more}
[strategies.{strategy}]
type = "one_strategy:BuyAndRest"
venue = "{name}"
symbols = ["{symbol}"]
[strategies.{strategy}.params]
quantity = "{quantity}"
tick = "{tick}"
[services.{service}]
command = ["{{python}}", "-m", "openbell_sim", "--face", "{face}", "--port", "{{port}}",
           "--log", "{{state}}/venue.jsonl", {sim}
           "--key-env", "{key}_KEY",
           "--secret-env", "{key}_SECRET"]
port = {port}
venues = ["{name}"]
role = "venue"
ready = {{ kind = "http", path = "/ready" }}
"""

_SERVICE = """\
[services.{name}]
command = ["{{python}}", "-m", "openbell.services.{module}"]
port = {port}
role = "{role}"
critical = true
depends_on = {depends_on}
ready = {{ kind = "http", path = "/ready" }}
"""


def make_desk(folder: Path, subject: Subject, tick: str) -> PaperDesk:
    """A closed desk in `folder` that trades `subject`'s first symbol at its simulated face."""
    (port,) = free_ports(1)
    venue = _venue(
        subject, tick, port, name="the-venue", service="venue-sim", strategy="buy_and_rest"
    )
    return _make(folder, {"the-venue": "venue-sim"}, venue)


def make_desk_of(folder: Path, subjects: Mapping[str, Subject]) -> PaperDesk:
    """The same of several venues by name, each with a strategy of its own. The service of a venue's
    simulated face is `sim-NAME`."""
    venues = [
        _venue(
            subject,
            subject.coarse_tick,
            port,
            name=name,
            service=f"sim-{name}",
            strategy=f"rest-{name}",
        )
        for port, (name, subject) in zip(free_ports(len(subjects)), subjects.items(), strict=True)
    ]
    return _make(folder, {name: f"sim-{name}" for name in subjects}, "".join(venues))


def _venue(
    subject: Subject, tick: str, port: int, *, name: str, service: str, strategy: str
) -> str:
    return _VENUE.format(
        name=name,
        service=service,
        strategy=strategy,
        port=port,
        key=f"OPENBELL_VENUE_{name.upper().replace('-', '_')}",
        adapter=subject.adapter,
        symbol=subject.symbols[0],
        quantity=subject.quantity,
        tick=tick,
        face=subject.face,
        # Nothing but money: on the spot, what the account holds besides would be a position.
        sim="".join(
            f'"{argument}", '
            for argument in (*subject.sim, "--deposit", f"{subject.funds}=1000000")
        ),
        more=_toml(subject),
    )


def _make(folder: Path, sims: Mapping[str, str], venues: str) -> PaperDesk:
    """`sims`: the service of each venue."""
    folder.mkdir()
    (folder / "one_strategy.py").write_text(_STRATEGY)
    ports = free_ports(5)
    text = _DESK.format(controller=ports[0]) + venues
    services = (
        ("market-data", "market_data", "market-data", list(sims.values())),
        ("risk-management", "risk_management", "risk", []),
        ("execution-engine", "execution_engine", "engine", list(sims.values())),
        (
            "market-analysis",
            "market_analysis",
            "strategies",
            ["market-data", "risk-management", "execution-engine"],
        ),
    )
    for port, (name, module, role, depends_on) in zip(ports[1:], services, strict=True):
        text += _SERVICE.format(
            name=name, module=module, port=port, role=role, depends_on=json.dumps(depends_on)
        )
        if role in ("engine", "market-data"):  # some venues quote to known accounts only
            text += f"venues = {json.dumps(list(sims))}\n"
    (folder / "desk.toml").write_text(text)
    environ = {name: value for name, value in os.environ.items() if "OPENBELL" not in name}
    return PaperDesk(folder, environ)


def _toml(subject: Subject) -> str:
    """The subject's further keys of the venue's table: text, and one level of text tables."""
    lines = []
    for key, value in subject.config.items():
        if isinstance(value, dict):
            inner = ", ".join(f'{name} = "{text}"' for name, text in value.items())
            lines.append(f"{key} = {{ {inner} }}")
        else:
            lines.append(f'{key} = "{value}"')
    return "\n".join(lines)
