"""What ccxt's unified methods leave out, by exchange. Each entry was found by trying it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Quirks:
    cl_ord_id_param: str = "clientOrderId"
    """The parameter of `create_order` that carries the ClOrdID."""
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
}


def quirks_of(exchange_id: str) -> Quirks:
    return _QUIRKS.get(exchange_id, Quirks())
