"""What intentions become while a server learns to keep entries: which of two places is believed, and what `status` says of it; pure."""

from collections.abc import Collection, Sequence

from nodeagent.catalog.state import IntentionRow
from nodeagent.control.proof import Rows, in_order
from nodeagent.model.intention import ANY

_NAMED = 3


def shut(rows: Rows, destinations: Collection[str]) -> Rows:
    """`rows`, but of these destinations everything is a deny, and of whoever is not named, too."""
    if not destinations:
        return rows
    denied = {(row.source, row.destination): row.closed for row in rows if row.destination in destinations}
    denied |= {(ANY, name): IntentionRow(ANY, name, "deny") for name in destinations}
    return in_order((*(row for row in rows if row.destination not in destinations), *denied.values()))


def left_over(lacking: Rows) -> str:
    """In words: an agent that is new here finds this in the KV store."""
    if not lacking:
        return ""
    return (
        f"the KV store says what the catalog's service-intentions lack: {_named(lacking)}; these services take no calls here, as it is "
        "not known which of the two is older: apply the same files again, or remove it below nodeagent/config/service-intentions"
    )


def unmoved(lacking: Rows) -> str:
    """In words: this was in force before the server had entries."""
    if not lacking:
        return ""
    return (
        f"the catalog has service-intentions as entries now, which lack what the KV store says: {_named(lacking)}; "
        "that stays in force: apply the same files again, or remove it below nodeagent/config/service-intentions"
    )


def not_in_force(rows: Rows) -> str:
    """In words: entries in the KV store stand in the place of these."""
    if not rows:
        return ""
    return f"rows of intentions are not in force, as entries in the KV store say otherwise: {_named(rows)}; nodeagent intention list shows all of them"


def _named(rows: Sequence[IntentionRow]) -> str:
    named = ", ".join(f"{row.source} -> {row.destination} ({row.word})" for row in rows[:_NAMED])
    return f"{named}, …" if len(rows) > _NAMED else named
