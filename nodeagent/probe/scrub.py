"""Taking secrets out of text that leaves the host. Pure.

Nothing that is collected should hold one: this is for the text that somebody else wrote, such as a log line.
"""

import re
from collections.abc import Iterable

MASK = "[redacted]"
_SHORTEST = 8  # a token below this is none of ours, and masking it everywhere would leave nothing to read
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_LIST = r"""\[[^\[\]]{0,4000}\]"""
_VALUE = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|["']?(?:(?:Bearer|Basic)\s{1,8})?[^\s,;}\]"']+)"""
_NAMES = r"(?:token|secret|passw(?:or)?d|passphrase|pwd|(?:api|private|client)[_-]?key|credential)[\w-]{0,40}"
# Bounded, and never begun by what may be long: the time that they take grows with the text, and not with its square.
_NAMED = re.compile(rf"""({_NAMES}["']?\s{{0,8}}[:=]\s{{0,8}})(?!\s{{0,8}}no such setting\b)({_LIST}|\[?\s{{0,8}}{_VALUE})""", re.IGNORECASE)
_OPTION = re.compile(rf"""((?:(?<![\w-])--|\bX-)[\w-]{{0,40}}{_NAMES}\s{{1,8}})({_VALUE})""", re.IGNORECASE)
_HEADER = re.compile(r"""((?:authorization|cookie)["']?\s{0,8}[:=]\s{0,8})("(?:[^"\\]|\\.)*"|'[^']*'|[^\r\n]+)""", re.IGNORECASE)
_IN_URL = re.compile(r"""(\b[a-z][a-z0-9+.-]{0,20}://)[^/\s"']+@""", re.IGNORECASE)
_IS_PLACE = re.compile(r"(?:file|path|dir)[\"']?\s*[:=]?\s*$", re.IGNORECASE)
_TELLING = ("", "true", "false", "null", "None", "0")


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the secrets, without private keys, and without what is called a token, secret or password."""
    for secret in sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _IN_URL.sub(rf"\1{MASK}@", _PEM.sub(MASK, text))
    for pattern in (_HEADER, _NAMED, _OPTION):
        text = pattern.sub(_masked, text)
    return text


def _masked(match: re.Match[str]) -> str:
    """The path of a token's file is no secret, and tells much; so does that there is none."""
    value = match[2].strip("[]\"' ")
    is_telling = value in _TELLING or (value.startswith("/") and _IS_PLACE.search(match[1]))
    return match[0] if is_telling else f"{match[1]}{MASK}"
