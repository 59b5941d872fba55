"""Layer `trading`: the bus and its messages, the execution engine, strategies."""
