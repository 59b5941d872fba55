"""The Binance spot protocol: REST, WebSocket streams, WebSocket API."""
