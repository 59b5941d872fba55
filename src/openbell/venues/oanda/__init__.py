"""OANDA: REST v20."""
