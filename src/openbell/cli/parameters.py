"""Values of options that click's own types would refuse in words of a programmer."""

from __future__ import annotations

import click


class Seconds(click.FloatRange):
    """A number of seconds within bounds: `'abc' is not a valid number of seconds`."""

    name = "number of seconds"
