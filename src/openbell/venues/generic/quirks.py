"""What ccxt's unified methods leave out, by exchange. Each entry was found by trying it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from openbell.domain.orders import ClOrdID
from openbell.venues.kraken.ids import from_kraken, to_kraken

TRIED = frozenset({"binance", "coinbase", "kraken"})
"""Exchanges over which the conformance suite is run through this adapter."""


@dataclass(frozen=True)
class Quirks:
    cl_ord_id_param: str = "clientOrderId"
    """The parameter of `create_order` that carries the ClOrdID."""
    to_exchange: Callable[[ClOrdID], str | None] = str
    """What the exchange takes for a ClOrdID of ours; None: it has no form for it."""
    from_exchange: Callable[[str], ClOrdID] = ClOrdID
    offset_param: str = ""
    """Of lists: how many entries to leave out, where the exchange has that."""
    one_at_a_time: bool = False
    """Requests carry numbers that must arrive in order."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the ccxt object."""
    market_buy: Callable[[str], dict[str, Any]] | None = None
    """Parameters that make `create_order` buy a quantity of the base currency, where ccxt by itself
    can only spend an amount of the quote currency."""


def _coinbase_market_buy(quantity: str) -> dict[str, Any]:
    # ccxt insists on a cost; what it makes of that is replaced by the configuration.
    return {"cost": "1", "order_configuration": {"market_market_ioc": {"base_size": quantity}}}


_QUIRKS = {
    "binance": Quirks(
        options={
            "defaultType": "spot",
            "fetchMarkets": {"types": ["spot"]},  # else it loads three exchanges
            "fetchMargins": False,
            "warnOnFetchOpenOrdersWithoutSymbol": False,
        }
    ),
    "coinbase": Quirks(
        cl_ord_id_param="client_order_id",  # `clientOrderId` is dropped without a word
        options={"fetchBalance": "v3PrivateGetBrokerageAccounts"},  # the default knows no holds
        market_buy=_coinbase_market_buy,
    ),
    "kraken": Quirks(
        to_exchange=to_kraken,
        from_exchange=from_kraken,
        offset_param="ofs",
        one_at_a_time=True,
    ),
}


def quirks_of(exchange_id: str) -> Quirks:
    return _QUIRKS.get(exchange_id, Quirks())
