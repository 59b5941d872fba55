"""The products of the simulated Coinbase, on the grids that Coinbase publishes for them."""

from __future__ import annotations

from decimal import Decimal

from openbell_sim.instruments import Instrument


def _product(base: str, quote: str, tick: str, max_qty: str) -> Instrument:
    """Coinbase counts these in units of 1e-8 and asks for an order of at least 1 in the quote
    currency (`base_increment`, `quote_min_size` of the product)."""
    return Instrument(
        symbol=f"{base}-{quote}",
        base=base,
        quote=quote,
        tick=Decimal(tick),
        lot=Decimal("0.00000001"),
        min_qty=Decimal("0.00000001"),
        max_qty=Decimal(max_qty),
        min_price=Decimal(tick),
        min_notional=Decimal(1),
        max_notional=Decimal(150_000_000),
    )


PRODUCTS: dict[str, Instrument] = {
    product.symbol: product
    for product in (
        _product("BTC", "USD", "0.01", "3400"),
        _product("ETH", "USD", "0.01", "42000"),
        _product("LTC", "USD", "0.01", "200000"),
        _product("SOL", "USD", "0.01", "160000"),
    )
}
