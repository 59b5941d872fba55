"""The kill rules in the process that judges them: facts in, latches out, the controller told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from openbell.domain.external import JournalEvent
from openbell.domain.kill_rules import Judge, Now, Rule, rules_document
from openbell.domain.market import Quote
from openbell.kill.rule_keeper import RuleKeeper, tell_controller
from openbell.service.context import ServiceContext
from openbell.trading.kill_watch import KillWatch
from openbell.trading.messages import EngineHeartbeat
from openbell.trading.risk_watch import RiskWatch


class KillDesk:
    """Does nothing at all where desk.toml has no rule of its own."""

    def __init__(self, context: ServiceContext, watch: RiskWatch) -> None:
        self._context = context
        self._is_set = context.file.kill_switch.rules.of_risk
        judge = Judge()
        began = Now(time.time_ns(), time.monotonic_ns(), ())
        self._watch = KillWatch(context.file, watch.books, judge, began)
        self._judge = judge
        self._keeper: RuleKeeper | None = None

    def start(self) -> None:
        if not self._is_set:
            return
        file = self._context.state / "kill-rules.json"
        layout = self._context.layout
        self._keeper = RuleKeeper(
            layout,
            file,
            self._judge,
            self._watch.look,
            partial(tell_controller, layout),
            rules=set(Rule) - {Rule.HEARTBEAT_LOST},
        )
        self._keeper.start()

    def on_quote(self, quote: Quote) -> None:
        self._watch.on_quote(quote, time.monotonic_ns())

    def on_heartbeat(self, beat: EngineHeartbeat) -> None:
        self._watch.live = True
        self._watch.on_heartbeat(beat, time.monotonic_ns())

    def on_lost(self) -> None:
        """The engine's events cannot be followed: nothing is known of the books."""
        self._watch.live = False

    @contextmanager
    def folding(self, event: JournalEvent) -> Iterator[None]:
        """Around the folding of an event into the books."""
        if not self._is_set:
            yield
            return
        self._watch.before_event(event)
        yield
        self._watch.after_event(event)

    def look(self) -> None:
        if self._keeper is not None:
            self._keeper.look()

    def document(self) -> list[dict[str, object]]:
        return [] if self._keeper is None else rules_document(self._keeper.judgements)
