"""Openbell's adapter for Moon. `venue` speaks to it and decides; `wire` says what its words mean."""
