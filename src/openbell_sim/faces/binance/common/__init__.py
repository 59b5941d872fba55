"""What Binance's spot and futures venues have in common: signatures, parameters, limits, sockets."""
