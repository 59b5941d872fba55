"""Where the crowd comes from: market sources and the driver that plays them into the exchange."""
