"""Strategies that ship: small, real, and meant to be read before writing one's own.

    market_making.MarketMaking   quotes both sides of one symbol
    stat_arb.StatArb             trades the ratio of two symbols back to its mean
    momentum.Momentum            follows the crossing of two moving averages

All are pure: what they do depends on what they were shown and on nothing else, so a recorded
session replays to the same actions.
"""
