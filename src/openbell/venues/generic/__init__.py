"""Any exchange that ccxt knows, by ccxt's unified methods."""
