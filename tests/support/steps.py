"""What is made in steps, at once."""

from collections.abc import Generator
from typing import TypeVar

Value = TypeVar("Value")


def finish(steps: Generator[None, None, Value]) -> Value:
    """Takes all steps; gives what they make."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            made: Value = done.value
            return made
