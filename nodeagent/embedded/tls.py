"""The listener's TLS: its own certificate, renewed while it runs, or the operator's files, read again when replaced."""

import os
import ssl
from datetime import datetime
from pathlib import Path
from typing import Protocol

from certs.server import ServerCertificate, ServerRoot
from nodeagent.errors import CatalogError


class ServerTls(Protocol):
    """A context that listeners use, kept fresh: handshakes after a refresh show the new certificate."""

    context: ssl.SSLContext

    def refresh(self, now: datetime) -> bool:
        """Renews if it is due; whether it was.

        Raises:
            CatalogError: the new certificate cannot be used; the old one stays.
        """


class OwnTls:
    """Certificates below the catalog's own root, which clients pin. Owned by the event loop."""

    def __init__(self, root: ServerRoot, names: tuple[str, ...], now: datetime) -> None:
        self.context = new_context()
        self._root = root
        self._names = names
        self._current: ServerCertificate | None = None
        self.refresh(now)

    def refresh(self, now: datetime) -> bool:
        """As ServerTls."""
        if self._current is not None and now < self._current.renew_at():
            return False
        try:
            made = self._root.issue(self._names, now)
            _load_from_memory(self.context, made)
        except (ValueError, OSError) as error:
            raise CatalogError(f"the catalog's own TLS certificate cannot be made: {error}") from error
        self._current = made
        return True


class FileTls:
    """The operator's certificate and key, read again when the files change. Owned by the event loop."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.context = new_context()
        self._paths = (certificate, key)
        self._seen: list[tuple[int, int]] = []
        self.refresh()

    def refresh(self, now: datetime | None = None) -> bool:
        """As ServerTls; the files say when."""
        del now
        try:
            seen = [(status.st_ino, status.st_mtime_ns) for status in map(os.stat, self._paths)]
            if seen == self._seen:
                return False
            # First into a context of its own: a certificate whose key is not there yet must not break the one in use.
            new_context().load_cert_chain(*self._paths)
            self.context.load_cert_chain(*self._paths)
        except (OSError, ValueError) as error:
            names = " and ".join(map(str, self._paths))
            raise CatalogError(f"{names}: not a TLS certificate with its key: {error}") from error
        self._seen = seen
        return True


def new_context() -> ssl.SSLContext:
    """TLS 1.3, as every client of this decade speaks it, and no resumption."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load_from_memory(context: ssl.SSLContext, made: ServerCertificate) -> None:
    """Python takes keys from files only; this one is never on a disk."""
    descriptor = os.memfd_create("catalog-tls", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, (made.cert_pem + made.key_pem).encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
