"""Layer `watch`: what the desk's logs say, and what its services answer when asked."""
