"""The peeked ClientHello: what real clients send is understood, in any portions; garbage is refused."""

import ssl

import pytest

from nodeagent import limits
from nodeagent.wire.client_hello import TLS_1_3, ClientHello, HelloError, NeedMore, alert, read_client_hello


def hello_of(name: str, protocols: list[str]) -> bytes:
    """The first bytes that OpenSSL's client sends."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(protocols)
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def test_a_real_hello_is_read() -> None:
    """Name, protocols and versions of OpenSSL's own client."""
    found = read_client_hello(hello_of("web.default.dc1.internal.mesh.consul", ["h2", "http/1.1"]))
    assert isinstance(found, ClientHello)
    assert found.server_name == "web.default.dc1.internal.mesh.consul"
    assert found.protocols == (b"h2", b"http/1.1")
    assert TLS_1_3 in found.versions


def test_every_prefix_asks_for_more_and_says_how_much() -> None:
    """Byte by byte: first the record's head, then the whole record, never an error and never a guess."""
    whole = hello_of("web.example", ["h2"])
    for size in range(len(whole)):
        assert read_client_hello(whole[:size]) == NeedMore(5 if size < 5 else len(whole))
    assert isinstance(read_client_hello(whole), ClientHello)


def test_bytes_after_the_record_are_left_alone() -> None:
    """Early data behind the hello changes nothing."""
    whole = hello_of("web.example", ["h2"])
    assert read_client_hello(whole + b"later") == read_client_hello(whole)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x02\x00\x00\x05hello",
        b"\x16\x03\x01\xff\xff" + b"\x01" * 10,
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"\x00",
    ],
)
def test_what_is_no_hello_is_refused(head: bytes) -> None:
    """Clear text, alerts, empty and oversized records, other handshakes, hellos that end early."""
    with pytest.raises(HelloError):
        read_client_hello(head)


def test_no_truncated_body_is_believed() -> None:
    """A record that claims to be whole but whose hello ends anywhere inside is refused, never half read."""
    whole = hello_of("web.example", ["h2"])
    for size in range(9, len(whole)):
        body = whole[5:size]
        with pytest.raises(HelloError):
            read_client_hello(whole[:3] + len(body).to_bytes(2, "big") + body)


def test_a_hello_without_a_name_has_an_empty_one() -> None:
    """No server name is no reason to fail here: whoever chooses the certificate refuses it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    found = read_client_hello(out.read())
    assert isinstance(found, ClientHello)
    assert (found.server_name, found.protocols) == ("", ())


def test_an_alert_is_a_fatal_record() -> None:
    """Seven bytes: record type alert, fatal, the description."""
    assert alert(112) == b"\x15\x03\x03\x00\x02\x02\x70"


def test_a_record_may_be_as_long_as_tls_allows_and_no_longer() -> None:
    """Nobody is waited for beyond that."""
    most = limits.HELLO_BYTES
    assert read_client_hello(b"\x16\x03\x01" + (most - 5).to_bytes(2, "big")) == NeedMore(most)
    with pytest.raises(HelloError, match=f"{most + 1} bytes"):
        read_client_hello(b"\x16\x03\x01" + (most - 4).to_bytes(2, "big"))


def test_no_name_is_longer_than_one_of_dns() -> None:
    """Anybody may send one, and it gets into rows."""
    longest = limits.SERVER_NAME_BYTES
    found = read_client_hello(bare_hello(b"x" * longest))
    assert isinstance(found, ClientHello)
    assert len(found.server_name) == longest
    with pytest.raises(HelloError, match=f"a server name of {longest + 1} bytes"):
        read_client_hello(bare_hello(b"x" * (longest + 1)))


def bare_hello(name: bytes) -> bytes:
    """A hello with nothing but a server name, which no TLS library would send so long."""
    extension = b"\0\0" + _vector(_vector(b"\0" + _vector(name)))
    hello = b"\x03\x03" + 32 * b"\0" + b"\0" + _vector(b"\x13\x01") + b"\x01\0" + _vector(extension)
    return b"\x16\x03\x01" + _vector(b"\x01\0" + _vector(hello))


def _vector(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
