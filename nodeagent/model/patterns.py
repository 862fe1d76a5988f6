"""Regular expressions that others wrote: RE2's, which are matched in linear time whatever they say, and compiled within milliseconds."""

from typing import Any

import re2

from nodeagent import limits

_CLASSES = ("\\p", "\\P")


class BadPattern(ValueError):
    """It is none, or takes too much; the message says why."""


def compile_pattern(text: str, most: int) -> Any:
    """The pattern, in `most` bytes of memory.

    Raises:
        BadPattern: not a pattern of RE2, or one that takes too much.
    """
    if sum(map(text.count, _CLASSES)) > limits.PATTERN_CLASSES:
        raise BadPattern(f"a pattern has at most {limits.PATTERN_CLASSES} classes of Unicode (\\p)")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = most
    try:
        return re2.compile(text, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        raise BadPattern(f"not a pattern of RE2: {said.decode('utf-8', 'replace') if isinstance(said, bytes) else said}") from None
