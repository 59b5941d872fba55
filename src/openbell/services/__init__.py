"""The paper desk's own services: market data, strategies, risk, the execution engine."""
