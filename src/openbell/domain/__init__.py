"""Layer `domain`: pure. Orders, positions, reconciliation, limits, desk and service states, plans.

Facts in, decisions out: no clock, no I/O, no randomness. Times come in as integers of
nanoseconds since the epoch (`*_ns`), money as Decimal.
"""
