"""What the catalog's log tells of trust: tokens made and revoked, restores; by whom, also beside the running server."""

import sqlite3
from collections.abc import Collection

from nodeagent.embedded.database import EVERYTHING
from nodeagent.embedded.tokens import TOKENS, Token, read_token
from nodeagent.observe.log import open_log

BESIDE = "a command on the data directory"


class Noticed:
    """Which tokens the log has told of. Owned by the store."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._known = _accessors(connection)

    def made(self, token: Token, by: str) -> None:
        """A token was made. by: the accessor of the caller, or BESIDE."""
        caller = token.caller
        if caller.accessor not in self._known:
            self._known.add(caller.accessor)
            open_log().warning("token_created", accessor=caller.accessor, kind=caller.kind, host=caller.node, services=caller.services, by=by)

    def revoked(self, accessor: str, by: str) -> None:
        """A token was taken back."""
        self._known.discard(accessor)
        open_log().warning("token_revoked", accessor=accessor, by=by)

    def look(self, connection: sqlite3.Connection, topics: Collection[str]) -> None:
        """Tells what another process did, if it is among the topics that changed."""
        if EVERYTHING in topics:
            open_log().warning("catalog_restored", by=BESIDE)
        if TOKENS not in topics:
            return
        now = _accessors(connection)
        for accessor in sorted(self._known - now):
            self.revoked(accessor, BESIDE)
        for accessor in sorted(now - self._known):
            if token := read_token(connection, accessor):
                self.made(token, BESIDE)


def _accessors(connection: sqlite3.Connection) -> set[str]:
    return {accessor for (accessor,) in connection.execute("SELECT accessor FROM tokens")}
