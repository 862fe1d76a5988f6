"""The first bytes of a TLS client, as OpenSSL says them, without a connection."""

import ssl


def hello(name: str, *, protocols: tuple[str, ...] = ("h2",), tls12: bool = False) -> bytes:
    """A ClientHello that asks for `name`; without a name for an empty one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    out = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name or None).do_handshake()
    except ssl.SSLWantReadError:
        return out.read()
    raise AssertionError("a handshake that nobody answered has ended")
