"""Seconds on the command line."""

import math
from typing import Any

import click


class Seconds(click.FloatRange):
    """A number in a range. Not a number (nan) is in none, although it is outside of none either."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """click's: the number, else a usage error."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return number
