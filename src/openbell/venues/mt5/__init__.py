"""MetaTrader 5, by the bridge that runs beside a terminal."""
