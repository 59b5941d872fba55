"""TradeLocker over its REST API."""
