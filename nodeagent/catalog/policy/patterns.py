"""Regular expressions of entries: RE2's, which are matched in linear time whatever they say."""

import re2

from nodeagent import limits


def pattern_fault(pattern: str) -> str:
    """Why this is no pattern, else nothing."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = limits.POLICY_PATTERN_BYTES
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        return f"not a pattern of RE2: {said.decode('utf-8', 'replace') if isinstance(said, bytes) else said}"
    return ""
