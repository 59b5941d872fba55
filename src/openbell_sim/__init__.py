"""Simulated venues: a real matching engine behind the faces of real venues."""
