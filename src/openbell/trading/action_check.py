"""What a strategy may ask for: the one place where its actions are checked before they are intents.

A strategy is anybody's code. What it yields is read once, up to a bound, and every field is checked
by type and value; the rest of the host counts on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import islice

from openbell.domain.orders import ClOrdID, Order, Side, TimeInForce
from openbell.trading.strategy import Action, Cancel, Submit

ACTIONS_MAX = 100
"""Of one call. Ours: a call that asks for more has lost its way, or yields for ever."""


def checked_actions(
    yielded: Iterable[Action] | None,
    *,
    strategy: str,
    symbols: tuple[str, ...],
    orders: Mapping[ClOrdID, Order],
) -> tuple[Action, ...]:
    """The actions of one call. Raises ValueError or TypeError for what may not be asked for, and
    passes on whatever the strategy raises while it is read. `orders`: all that are known."""
    actions = tuple(islice(yielded or (), ACTIONS_MAX + 1))
    if len(actions) > ACTIONS_MAX:
        raise ValueError(f"yielded more than {ACTIONS_MAX} actions in one call")
    for action in actions:
        # By the very type: a subclass may compute its fields, and say something else when asked
        # a second time.
        if type(action) is Submit:
            _check_submit(action, symbols)
        elif type(action) is Cancel:
            _check_cancel(action, strategy, orders)
        else:
            raise TypeError(f"yielded {action!r}, which is neither Submit nor Cancel")
    return actions


def _check_submit(action: Submit, symbols: tuple[str, ...]) -> None:
    if not isinstance(action.symbol, str) or action.symbol not in symbols:
        raise ValueError(f"yielded an order in {action.symbol!r}, which is not among its symbols")
    _check_member(action.side, Side, "side")
    _check_member(action.time_in_force, TimeInForce, "time_in_force")
    _check_amount(action.quantity, "quantity")
    if action.price is not None:
        _check_amount(action.price, "price")
    if type(action.post_only) is not bool:
        raise TypeError(f"yielded an order whose post_only is {action.post_only!r}, not a bool")


def _check_member(value: object, enum: type[Side | TimeInForce], what: str) -> None:
    if not isinstance(value, enum):
        known = ", ".join(f"{enum.__name__}.{member.name}" for member in enum)
        raise TypeError(f"yielded an order whose {what} is {value!r}; it is one of {known}")


def _check_amount(number: object, what: str) -> None:
    if type(number) is not Decimal:
        raise TypeError(f"yielded an order whose {what} is {number!r}, not a Decimal")
    if not (number.is_finite() and number > 0):
        raise ValueError(f"yielded an order of {what} {number}, which is not a positive amount")


def _check_cancel(action: Cancel, strategy: str, orders: Mapping[ClOrdID, Order]) -> None:
    if not isinstance(action.cl_ord_id, str) or not action.cl_ord_id:
        raise TypeError(f"yielded a cancel of {action.cl_ord_id!r}, which is no ClOrdID")
    # An order that is not known may be one that ended long ago; the engine answers for it.
    order = orders.get(action.cl_ord_id)
    if order is not None and order.new.strategy != strategy:
        raise ValueError(f"yielded a cancel of {action.cl_ord_id}, which is not its own order")
