"""Connecting, and what the venue tells of account and market."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from openbell.domain.market import base_quote
from openbell.venues.port import NotSupportedError, VenueAuthError, VenueUnavailableError

operation = pytest.mark.operation


@operation("connect")
async def test_connecting_again_is_allowed(venue):
    await venue.connect()


@operation("connect")
async def test_a_wrong_secret_is_told_as_such(opened, subject):
    with pytest.raises(VenueAuthError):
        await opened(secret="9d" * len(subject.secret[::2])).connect()


@operation("connect")
async def test_a_venue_out_of_reach_is_unavailable_and_comes_back(venue, relay):
    relay.refusing = True
    relay.cut_all()
    with pytest.raises(VenueUnavailableError):
        await venue.balances()
    relay.refusing = False
    assert await venue.balances()


@operation("instrument rules")
async def test_rules_are_exact_decimals_of_declared_symbols_only(venue, subject):
    rules = venue.rules(subject.symbols[0])
    assert (rules.symbol, rules.base, rules.quote) == (
        subject.symbols[0],
        *base_quote(subject.symbols[0]),
    )
    for number in (rules.tick_size, rules.lot_size, rules.min_qty, rules.max_qty):
        assert isinstance(number, Decimal)
        assert number > 0
    with pytest.raises(KeyError):
        venue.rules("DOGE/USDT")


@operation("server time", needs=lambda venue: venue.server_time)
async def test_server_time_is_in_ns_since_1970(venue):
    assert abs(await venue.server_time_ns() - time.time_ns()) < 60 * 10**9


@operation("quote")
async def test_a_quote_has_a_bid_below_its_ask(venue, subject):
    quote = await venue.quote(subject.symbols[0])
    assert (quote.venue, quote.symbol) == ("sim", subject.symbols[0])
    assert 0 < quote.bid_px < quote.ask_px


@operation("balances")
async def test_balances_are_of_the_account(venue, subject):
    balances = await venue.balances()
    assert balances[subject.funds].total > 0


@operation("accounts")
async def test_the_accounts_name_the_one_that_is_traded_on(venue):
    accounts = await venue.accounts()
    assert [account.active for account in accounts].count(True) == 1
    assert all(account.account_id for account in accounts)


@operation("key permissions")
async def test_the_keys_permissions_are_told_or_not_known(venue):
    assert (await venue.key_permissions()).trade in (True, None)


@operation("positions")
async def test_positions_follow_fills_exactly(venue, trader, subject):
    base, _ = base_quote(trader.symbol)
    before = await trader.position()
    order = trader.market()
    outcome = await venue.submit(order)
    await trader.settled(order.cl_ord_id)
    fills = await venue.fills(trader.symbol, venue_order_id=outcome.venue_order_id)
    held_in_kind = not venue.capabilities.positions
    fees = sum((f.fee for f in fills if held_in_kind and f.fee_currency == base), Decimal(0))
    assert await trader.position() - before == order.order_qty - fees


@operation("positions")
async def test_every_declared_symbol_has_a_position_zero_included(venue, subject):
    assert {each.symbol for each in await venue.positions()} == set(subject.symbols)


@operation("what a venue does not have")
async def test_what_the_venue_does_not_have_is_refused_and_not_guessed(venue, trader):
    lacks = venue.capabilities
    calls = {
        "mass cancel": (lacks.mass_cancel, lambda: venue.cancel_account()),
        "per symbol": (lacks.mass_cancel_per_symbol, lambda: venue.cancel_all(trader.symbol)),
        "batch": (lacks.batch_cancel, lambda: venue.cancel_many(trader.symbol, [])),
        "dead man": (lacks.dead_mans_switch, lambda: venue.arm_dead_mans_switch(60)),
        "time": (lacks.server_time, lambda: venue.server_time_ns()),
    }
    for has_it, call in calls.values():
        if not has_it:
            with pytest.raises(NotSupportedError):
                await call()
