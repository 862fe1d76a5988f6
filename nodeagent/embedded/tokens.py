"""The table of tokens. A secret is shown once, when it is made; only its hash is kept."""

import hashlib
import hmac
import json
import secrets
import sqlite3
import uuid
from typing import Any, NamedTuple

from nodeagent.embedded.access import Caller, Kind
from nodeagent.embedded.certified import ROOTS, note_revoked
from nodeagent.embedded.database import Change

TOKENS = "tokens"
SECRET_BYTES = 32  # 256 bits of chance: no dictionary reaches it, so one round of SHA-256 protects the stored hash


class Token(NamedTuple):
    """A token as it may be listed."""

    caller: Caller
    description: str
    created_at: float
    """Unix seconds."""
    create_index: int


class NewToken(NamedTuple):
    """A token that was just made, with the secret that nobody will see again. The secret is not shown by `repr`."""

    token: Token
    secret: str

    def __repr__(self) -> str:
        return f"NewToken({self.token!r}, secret=<redacted>)"


def create_token(  # noqa: PLR0913 - a word for each column
    change: Change,
    kind: Kind,
    *,
    now: float,
    node: str = "",
    services: tuple[str, ...] = (),
    addresses: tuple[str, ...] = (),
    description: str = "",
) -> NewToken:
    """A new token and its secret.

    Raises:
        TooLarge: the table is full.
    """
    change.check_room("tokens")
    secret, accessor = secrets.token_hex(SECRET_BYTES), str(uuid.uuid4())
    change.connection.execute(
        "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '[]')",
        (
            accessor, _hash(secret), kind, node, json.dumps(services), description, now, change.index,
            json.dumps(addresses),
        ),
    )  # fmt: skip
    change.touch(TOKENS)
    return NewToken(Token(Caller(accessor, kind, node, services, addresses), description, now, change.index), secret)


def fix_addresses(change: Change, accessor: str, addresses: tuple[str, ...]) -> None:
    """From now on these are the addresses that a token may claim for which the operator named none."""
    change.connection.execute("UPDATE tokens SET fixed = ? WHERE accessor = ?", (json.dumps(addresses), accessor))
    change.touch(TOKENS)


def delete_token(change: Change, accessor: str, now: float) -> bool:
    """Revokes a token, and with it every certificate that was signed on its word; whether there was one.

    Raises:
        TooLarge: agents cannot be told of more revoked tokens.
    """
    row = change.connection.execute("DELETE FROM tokens WHERE accessor = ? RETURNING node", (accessor,)).fetchone()
    if row is None:
        return False
    note_revoked(change, accessor, row[0], now)
    change.touch(TOKENS, ROOTS)
    return True


def find_caller(connection: sqlite3.Connection, secret: str) -> Caller | None:
    """Whom the holder of `secret` speaks for; None: it is no token's.

    The look-up is by hash, whose timing tells nothing about a secret; the hash is then compared in constant time.
    """
    wanted = _hash(secret)
    row = connection.execute(f"{_SELECT} WHERE secret_hash = ?", (wanted,)).fetchone()
    if row is None or not hmac.compare_digest(row[-1], wanted):
        return None
    return _token(row).caller


def read_token(connection: sqlite3.Connection, accessor: str) -> Token | None:
    """One token."""
    row = connection.execute(f"{_SELECT} WHERE accessor = ?", (accessor,)).fetchone()
    return _token(row) if row else None


def read_tokens(connection: sqlite3.Connection) -> list[Token]:
    """All tokens, oldest first."""
    return [_token(row) for row in connection.execute(f"{_SELECT} ORDER BY create_index, accessor")]


_SELECT = (
    "SELECT accessor, kind, node, services, addresses, fixed, description, created_at, create_index, secret_hash"
    " FROM tokens"
)


def _token(row: tuple[Any, ...]) -> Token:
    accessor, kind, node, *lists, description, created_at, create_index, _ = row
    services, addresses, fixed = (tuple(json.loads(text)) for text in lists)
    return Token(Caller(accessor, kind, node, services, addresses, fixed), description, created_at, create_index)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
