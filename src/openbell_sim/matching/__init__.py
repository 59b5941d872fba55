"""The matching engine: pure, in whole ticks and lots; no clock, no money, no I/O."""
