"""When to ask the catalog again: the rules of blocking queries, a rate limit and a backoff; pure."""

from nodeagent import limits

_INDEX_MAX, _INDEX_DIGITS = 2**63 - 1, 19


def next_index(last: int, header: str | None) -> int:
    """The index for the next query; 0 asks for a full answer at once.

    Source: Consul, blocking queries, implementation details.
    """
    if header is None or header == "0":  # 1) nothing there yet: 0 would make the query return at once, for ever
        return 1
    is_number = header.isascii() and header.isdecimal() and len(header) <= _INDEX_DIGITS
    if not is_number or int(header) > _INDEX_MAX:  # 2) not an index: start again
        return 0
    index = int(header)
    return 0 if index < last else index  # 3) gone back (a restore, a new leader): start again, or it hangs


def has_gone_back(last: int, header: str | None) -> bool:
    """Whether this is an index, and lower than the last: what it counts was replaced by something older."""
    return header not in (None, "0") and 0 < next_index(0, header) < last


def is_cut_short(asked: int, header: str | None, waited_s: float, wait_s: float) -> bool:
    """Whether a wait for what is newer than the index `asked` ended before its time, without news.

    Where its data are replaced Consul ends all waits so, with what it had before: to wait on would be for an index that is far away.
    """
    return asked > 0 and header == str(asked) and waited_s < wait_s


def backoff_s(failures: int, draw: float, ceiling_s: float = limits.CATALOG_BACKOFF_MAX_S) -> float:
    """Seconds to rest after `failures` (≥ 1) in a row: doubling, and less by up to a half. draw: 0 <= draw < 1."""
    full = min(limits.CATALOG_BACKOFF_MIN_S * 2.0 ** min(failures - 1, 20), ceiling_s)
    return full * (1.0 - draw / 2)


class Bucket:
    """A token bucket: `burst` at once, then `rate_per_s`. Owned by one watch."""

    def __init__(self, rate_per_s: float = limits.CATALOG_RATE_PER_S, burst: int = limits.CATALOG_BURST) -> None:
        self._rate = rate_per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = 0.0

    def take(self, now: float) -> float:
        """Takes a token; seconds to wait before it may be used."""
        self._tokens = min(self._burst, self._tokens + max(now - self._at, 0.0) * self._rate)
        self._at = now
        self._tokens -= 1.0
        return max(-self._tokens / self._rate, 0.0)
