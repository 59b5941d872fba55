"""The checklists of a desk's day: morning, startup, shutdown, eod."""
