"""How the catalog is believed, and how this host shows itself to it: TLS by its own CA alone, a client's certificate where it wants one."""

import http.client
import ssl
from urllib.parse import urlsplit

from nodeagent.config import CatalogTable
from nodeagent.errors import CatalogError


def tls_of(table: CatalogTable) -> ssl.SSLContext:
    """What the catalog's certificate is verified against: the configured CA and no other, or the system's; and what it is shown.

    Raises:
        CatalogError: a file cannot be read, or does not hold what it should.
    """
    try:
        tls = ssl.create_default_context(cafile=table.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise CatalogError(f"catalog.ca_file {table.ca_file}: no certificate could be read: {error}") from error
    if table.cert_file:
        try:
            tls.load_cert_chain(table.cert_file, table.key_file, password=lambda: b"")  # else it asks on the terminal
        except (OSError, ssl.SSLError, ValueError) as error:
            raise CatalogError(
                f"catalog.cert_file {table.cert_file} and catalog.key_file {table.key_file}: no certificate with its key, without a password, could be read: {error}"
            ) from error
    return tls


def connection_to(table: CatalogTable, timeout_s: float, tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    """A connection for one question, not opened yet. tls: another than `tls_of`.

    Raises:
        CatalogError: as `tls_of`.
    """
    parts = urlsplit(table.address)
    assert parts.hostname is not None
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    return _Named(parts.hostname, parts.port, timeout_s, tls or tls_of(table), table.server_name)


class _Named(http.client.HTTPConnection):
    """TLS to one who may be called otherwise than the host of the address."""

    def __init__(self, host: str, port: int | None, timeout_s: float, tls: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._tls = tls
        self._name = name or host

    def connect(self) -> None:
        """Opens it, and has the other end prove its name."""
        super().connect()
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)
