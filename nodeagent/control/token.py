"""The catalog token in its file, read again when the file changes; or in the environment."""

import os
from pathlib import Path

from nodeagent.consul_environ import FROM_ENVIRONMENT, TOKEN
from nodeagent.errors import CatalogError


class TokenFile:
    """Where the token is. Never shown: its repr names the path alone. Owned by the catalog's client."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._token = ""

    def __repr__(self) -> str:
        return f"TokenFile({self._path!r})"

    @property
    def why_none(self) -> str:
        """Where the token should be and is not; empty: it is there, or none is configured."""
        if self._path == FROM_ENVIRONMENT:
            return "" if self._token else f"no token was sent: {TOKEN} is not in the agent's environment"
        return f"no token was sent: {self._path} is missing" if self._path and not self._token else ""

    def read(self) -> str:
        """The token now; empty where no file is configured or none is there (a catalog without ACLs needs none).

        Raises:
            CatalogError: unreadable, or not one line of printable characters.
        """
        if not self._path:
            return ""
        if self._path == FROM_ENVIRONMENT:
            self._token = self._parse(os.environ.get(TOKEN, "").encode())
            return self._token
        try:
            facts = Path(self._path).stat()
            seen = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
            if seen != self._seen:
                self._token, self._seen = self._parse(Path(self._path).read_bytes()), seen
        except FileNotFoundError:
            self._token, self._seen = "", None
        except OSError as error:
            raise CatalogError(f"{self._path}: the catalog token cannot be read: {error.strerror}") from error
        return self._token

    def _parse(self, raw: bytes) -> str:
        token = raw.strip()
        if not token.isascii() or not token.decode("ascii").isprintable() or b" " in token:
            raise CatalogError(f"{self._path}: not a token: it must be one line of printable characters")
        return token.decode("ascii")
