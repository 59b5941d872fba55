"""Balances of one account, and the fees it pays."""

from __future__ import annotations

from collections.abc import Collection
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum

import msgspec

from openbell.domain.orders import Side
from openbell_sim.instruments import Instrument

ZERO = Decimal(0)
_SATOSHI = Decimal("0.00000001")


class Balance:
    """Amounts of one currency. Never negative; whoever would make them so has a defect. Only
    what margined instruments settle in may be owed."""

    __slots__ = ("deposited", "free", "locked", "may_owe")

    def __init__(self, *, may_owe: bool = False) -> None:
        self.free = ZERO
        self.locked = ZERO
        self.deposited = ZERO
        self.may_owe = may_owe

    @property
    def total(self) -> Decimal:
        return self.free + self.locked


class Account:
    def __init__(self, name: str, settlement: Collection[str] = ()) -> None:
        """`settlement`: currencies in which margined instruments are settled."""
        self.name = name
        self._settlement = settlement
        self.balances: dict[str, Balance] = {}
        self.updated_ns = 0

    def balance(self, currency: str) -> Balance:
        balance = self.balances.get(currency)
        if balance is None:
            balance = self.balances[currency] = Balance(may_owe=currency in self._settlement)
        return balance

    def free(self, currency: str) -> Decimal:
        balance = self.balances.get(currency)
        return balance.free if balance is not None else ZERO

    def deposit(self, currency: str, amount: Decimal) -> None:
        balance = self.balance(currency)
        balance.free += amount
        balance.deposited += amount

    def lock(self, currency: str, amount: Decimal) -> None:
        balance = self.balance(currency)
        balance.free -= amount
        balance.locked += amount
        _check(balance, currency)

    def pay(self, currency: str, amount: Decimal, *, held: Decimal) -> None:
        """Pays out of what was locked for it; what that leaves is free again."""
        balance = self.balance(currency)
        balance.locked -= held
        balance.free += held - amount
        _check(balance, currency)

    def unlock(self, currency: str, amount: Decimal) -> None:
        self.lock(currency, -amount)

    def add(self, currency: str, amount: Decimal) -> None:
        """Changes the free amount; a negative `amount` takes from it."""
        balance = self.balance(currency)
        balance.free += amount
        _check(balance, currency)


def _check(balance: Balance, currency: str) -> None:
    if (balance.free < ZERO and not balance.may_owe) or balance.locked < ZERO:
        raise AssertionError(f"negative balance of {currency}: {balance.free}, {balance.locked}")


class FeeIn(StrEnum):
    """Which currency a fee is taken in, on the spot."""

    RECEIVED = "received"
    """What the fill brings: base for a BUY, quote for a SELL."""
    QUOTE = "quote"


class FeeSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """Rates of the notional. 0.1 % and the 25 % discount for fees paid in BNB are Binance's
    standard spot rates."""

    maker: Decimal = Decimal("0.001")
    taker: Decimal = Decimal("0.001")
    fee_in: FeeIn = FeeIn.RECEIVED
    token: str = ""
    """Currency that fees are taken in instead while the account has some of it, for example `BNB`.
    """
    token_discount: Decimal = Decimal("0.25")

    def fee(
        self,
        instrument: Instrument,
        side: Side,
        qty: Decimal,
        price: Decimal,
        *,
        is_maker: bool,
        token_price: Decimal | None,
        token_free: Decimal,
        quote_free: Decimal,
    ) -> tuple[Decimal, str]:
        """`(amount, currency)`. `token_price` is in the instrument's quote currency; None where
        the token has no price. A BUY whose fee is due in the quote currency, and the account has
        too little of it free (orders hold nothing for fees), pays in what it brings."""
        rate = self.maker if is_maker else self.taker
        notional = qty * price
        if instrument.margin_rate is not None:
            return _cut(instrument.value(qty, price) * rate), instrument.settle_currency
        if self.token and token_price:
            amount = _cut(notional * rate * (1 - self.token_discount) / token_price)
            if amount <= token_free:
                return amount, self.token
        in_quote = _cut(notional * rate)
        if side is Side.SELL or (self.fee_in is FeeIn.QUOTE and in_quote <= quote_free):
            return in_quote, instrument.quote
        return _cut(qty * rate), instrument.base


def _cut(amount: Decimal) -> Decimal:
    return amount.quantize(_SATOSHI, ROUND_DOWN)
