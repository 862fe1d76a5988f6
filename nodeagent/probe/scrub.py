"""Taking secrets out of text that leaves the host. Pure.

Nothing that is collected should hold one: this is for the text that somebody else wrote, such as a log line.
"""

import re
from collections.abc import Iterable

MASK = "[redacted]"
_SHORTEST = 8  # a token below this is none of ours, and masking it everywhere would leave nothing to read
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_NAMED = re.compile(
    r"""((?:[\w-]*(?:token|secret|passw(?:or)?d|passphrase|api[_-]?key|private[_-]?key|authorization|credential)s?)["']?\s*[:=]\s*)"""
    r"""("(?:[^"\\]|\\.)*"|'[^']*'|(?:Bearer\s+|Basic\s+)?[^\s,;}"']+)""",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s:@]+:[^/\s@]+@", re.IGNORECASE)


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the secrets, without private keys, and without what is called a token, secret or password."""
    for secret in sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return _NAMED.sub(_masked, _IN_URL.sub(rf"\1{MASK}@", _PEM.sub(MASK, text)))


def _masked(match: re.Match[str]) -> str:
    """The path of a token's file is no secret, and tells much."""
    value = match[2].strip("\"'")
    is_telling = value.startswith("/") or value in ("", "true", "false", "null", "None", "0")
    return match[0] if is_telling else f"{match[1]}{MASK}"
