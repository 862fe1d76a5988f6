"""Seconds on the command line."""

import math
import re
from typing import Any

import click
from click.shell_completion import CompletionItem

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Seconds(click.FloatRange):
    """A number in a range. Not a number (nan) is in none, although it is outside of none either."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """click's: the number, else a usage error."""
        try:
            is_number = not math.isnan(float(value))
        except ValueError:
            is_number = False
        if not is_number:
            self.fail(f"{value!r} is no number of seconds, such as 30", param, ctx)
        return float(super().convert(value, param, ctx))


class Span(click.ParamType):  # type: ignore[type-arg] # older clicks have no argument here
    """A number of seconds, minutes, hours or days, as in `90`, `30m`, `1h`, `2d`: in whole seconds."""

    name = "duration"

    def __init__(self, most_s: float) -> None:
        """most_s: the longest that makes sense."""
        self._most_s = most_s

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """click's: the seconds, else a usage error."""
        found = re.fullmatch(r"([0-9]{1,9})([smhd]?)", str(value))
        seconds = int(found[1]) * _UNITS[found[2]] if found else 0
        if not 1 <= seconds <= self._most_s:
            self.fail(f"{value!r} is no time such as 90s, 30m, 1h or 2d, of at most {self._most_s / _UNITS['d']:g}d", param, ctx)
        return seconds

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """click's: a few usual ones."""
        return [CompletionItem(each) for each in ("1h", "1d", "7d", "30d") if each.startswith(incomplete)]
