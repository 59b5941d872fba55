"""Closing the desk: one module for each step, in the order they are taken.

    announce         people are told
    lock             nothing is deployed and no configuration is changed meanwhile
    reduce_limits    strategies wind down by themselves, where the desk file says so
    halt_strategies  no new order is made
    cancel_orders    own open orders are withdrawn, or kept
    flatten          positions are closed, or kept
    wait_for_orders  nothing is pending at the venue
    reconcile        books and venue say the same
    checkpoint       the desk's state is in one file that was read back
    stop_market_data and before it the strategies that follow it
    disconnect       whoever could send an order logs out, cancelling or keeping
    stop_services    in order; then the venues' own word, asked past everything of ours
    disarm           the dead-man's switches, last of what acts on a venue, and not armed again
    stop_venues      simulated ones, once that word is written down
    verify           nothing of the desk is left on this machine
    afterwards       what remains is written down, the logs are archived, people are told

Every step finds out what is so by asking, whoever did what before it: a closing that was cut off
is taken up again by doing the same once more. A step that could not be verified does not hide
behind the next ones: orders and positions that are not proven keep the services up, unless the
person who closes forces it (docs/decisions).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openbell.procedures.closing import (
    afterwards,
    announce,
    cancel_orders,
    checkpoint,
    disarm,
    disconnect,
    flatten,
    halt_strategies,
    lock,
    reconcile,
    reduce_limits,
    stop_market_data,
    stop_services,
    stop_venues,
    verify,
    wait_for_orders,
)
from openbell.procedures.closing.afterwards import Afterwards
from openbell.procedures.closing.announce import Announce
from openbell.procedures.closing.cancel_orders import CancelOrders
from openbell.procedures.closing.checkpoint import SaveCheckpoint
from openbell.procedures.closing.context import Closing
from openbell.procedures.closing.disarm import DisarmDeadMan
from openbell.procedures.closing.disconnect import Disconnect
from openbell.procedures.closing.flatten import FlattenPositions
from openbell.procedures.closing.halt_strategies import HaltStrategies
from openbell.procedures.closing.lock import LockDesk
from openbell.procedures.closing.reconcile import ReconcileBooks
from openbell.procedures.closing.reduce_limits import ReduceLimitsStep
from openbell.procedures.closing.stop_market_data import StopMarketData
from openbell.procedures.closing.stop_services import StopServices
from openbell.procedures.closing.stop_venues import StopVenues
from openbell.procedures.closing.verify import VerifyClosed
from openbell.procedures.closing.wait_for_orders import WaitForOrders
from openbell.procedures.declared import Parameter, Procedure
from openbell.procedures.step import Step

PROCEDURE = Procedure(
    name="close",
    title="Planned shutdown",
    version=5,
    purpose="Closes the desk and proves it closed: no order is made, what is open is withdrawn, what "
    "is held is closed or kept, and what remains is asked from the venues. Orders and positions that "
    "are not proven keep the services up.",
    command="openbell down",
    steps=(
        announce.SPEC,
        lock.SPEC,
        reduce_limits.SPEC,
        halt_strategies.SPEC,
        cancel_orders.SPEC,
        flatten.SPEC,
        wait_for_orders.SPEC,
        reconcile.SPEC,
        checkpoint.SPEC,
        stop_market_data.SPEC,
        disconnect.SPEC,
        stop_services.SPEC,
        disarm.SPEC,
        stop_venues.SPEC,
        verify.SPEC,
        afterwards.SPEC,
    ),
    parameters=(
        Parameter(
            name="flatten", kind="aggressive|conservative|keep", help="what becomes of positions"
        ),
        Parameter(
            name="orders", kind="cancel|keep|keep-passive", help="what becomes of open orders"
        ),
        Parameter(name="timeout_s", kind="seconds", help="of the whole closing"),
        Parameter(name="force", kind="yes or no", help="stop services whatever the venues say"),
    ),
    resumed_by="`openbell down`, as it was asked for before",
    not_by_itself="until cancel_orders has begun nothing is withdrawn, and it is easily taken back; from "
    "then on it goes on by itself",
    by_itself_from=cancel_orders.SPEC.name,
    by_itself_because="half of the orders are withdrawn, or one leg of two is sold, and nobody watches the "
    "rest; all that is left to do makes the desk smaller, and a person has asked for it",
    aliases=("down", "shutdown", "stop", "closing", "planned-shutdown"),
)


QUICK_LEAVES_OUT = frozenset({"announce", "lock", "reduce_limits", "afterwards"})
"""What a quick restart does without: it is for people, who wait for the desk to be back."""


def closing_steps(closing: Closing) -> Sequence[Step[Any, Any]]:
    """The steps of the planned shutdown; a desk without venues has no guard to disarm, and one without
    channels nobody to tell. Limits are reduced only where the desk file says so."""
    left_out = QUICK_LEAVES_OUT if closing.wishes.quick else frozenset()
    return [step for step in _every_step(closing) if step.name not in left_out]


def _every_step(closing: Closing) -> Sequence[Step[Any, Any]]:
    return (
        *([Announce(closing)] if closing.channels.for_event(announce.EVENT) else []),
        LockDesk(closing),
        *([ReduceLimitsStep(closing)] if closing.desk.file.closing.reduce_limits else []),
        HaltStrategies(closing),
        CancelOrders(closing),
        FlattenPositions(closing),
        WaitForOrders(closing),
        ReconcileBooks(closing),
        SaveCheckpoint(closing),
        StopMarketData(closing),
        Disconnect(closing),
        StopServices(closing),
        *([] if closing.guard is None else [DisarmDeadMan(closing)]),
        StopVenues(closing),
        VerifyClosed(closing),
        Afterwards(closing),
    )


__all__ = ["PROCEDURE", "QUICK_LEAVES_OUT", "Closing", "closing_steps"]
