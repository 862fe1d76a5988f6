"""`nodeagent intention` where the KV store has an entry of the destination: that is in force, and that is what is changed."""

from nodeagent.catalog.kept_intentions import PREFIX
from nodeagent.catalog.policy.entries import INTENTIONS, Key, read_entry
from nodeagent.cli.catalog_api import Client
from nodeagent.cli.legacy_intentions import Edit
from nodeagent.cli.policy_store import PolicyStore
from nodeagent.errors import CatalogError
from nodeagent.model.intention import Intention


def change_kept(client: Client, destination: str, edit: Edit) -> bool | None:
    """Applies `edit` to the entry of `destination` in the KV store; False: somebody else changed it meanwhile; None: there is none.

    Raises:
        CatalogError: refused, or the entry is not understood, or without it rows would allow again what it does not.
    """
    store = PolicyStore(client)
    key = Key(INTENTIONS, destination)
    known = store.read(key)
    if known is None:
        return None
    if known.entry is None:
        raise CatalogError(f"{PREFIX}{destination} in the KV store is not understood, and denies; mend it, or: nodeagent policy delete {key}")
    after = edit(known.body)
    if after is None:
        _check_rows(store, destination)
    return store.delete(key, known.index) if after is None else store.write(read_entry(after), known.index)


def _check_rows(store: PolicyStore, destination: str) -> None:
    """Who takes a source away does not mean to let others in.

    Raises:
        CatalogError: rows would.
    """
    allowing = [str(Intention(row.source, row.destination, row.action, row.permissions)) for row in store.rows_to({destination}) if row.word != "deny"]
    if allowing:
        raise CatalogError(
            f"it is the last source of the entry {PREFIX}{destination} in the KV store, in whose place these would be in force again: {', '.join(allowing)}; "
            f"remove them with Consul's own tools (consul intention delete), or have it so: nodeagent policy delete {INTENTIONS} {destination}"
        )
