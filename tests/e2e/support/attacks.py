"""Bad input for an agent's ports, as tables: what is done, how it must be answered, what the log must say of it."""

import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from certs.local_ca import LocalCa
from nodeagent import limits
from tests.e2e.support import look
from tests.e2e.support.arena import BACK, DEAD, WEB, WITHIN_S, Arena, answer_on
from tests.e2e.support.impostor import DATACENTER
from tests.e2e.support.intruder import HEADERS, Headers, Session, frame
from tests.e2e.support.unit import reset
from tests.support.eventually import eventually
from tests.support.hello import hello
from tests.unit.certs.minting import key_usage

OTHER = "ffffffff-2222-3333-4444-555555555555.consul"
Act = Callable[[], str]
"""Attacks once: how that was answered."""


class Attack(NamedTuple):
    """One row."""

    begin: Callable[[Arena], Act]
    answer: str
    reason: str
    """In the only line of the log about it; empty: it leaves none."""
    error: str = ""
    """A part of that line's sentence."""


# --- 15008: bytes ----------------------------------------------------------------------------------------------------


def says(data: bytes | Callable[[Arena], bytes]) -> Callable[[Arena], Act]:
    """Sends that, and no more."""

    def begin(arena: Arena) -> Act:
        sent = data if isinstance(data, bytes) else data(arena)

        def act() -> str:
            with arena.impostor.knock() as sock:
                sock.sendall(sent)
                sock.shutdown(socket.SHUT_WR)
                return answer_on(sock)

        return act

    return begin


def asks_for(name: Callable[[Arena], str], **options: Any) -> Callable[[Arena], Act]:
    """A hello with that server name."""
    return says(lambda arena: hello(name(arena), **options))


def resets(data: Callable[[Arena], bytes], *, after_answer: bool) -> Callable[[Arena], Act]:
    """Sends that, and RST: when the agent has accepted it, or has begun to answer.

    The kernel keeps to itself what is reset before.
    """

    def begin(arena: Arena) -> Act:
        sent = data(arena)

        def act() -> str:
            sock = arena.impostor.knock()
            sock.sendall(sent)
            if after_answer:
                assert sock.recv(1)
            else:
                eventually(lambda: arena.is_heard(sock), WITHIN_S, "it is accepted")
            reset(sock)
            return "gone"

        return act

    return begin


NOT_TLS = "not TLS"
BYTES = {
    "HTTP": Attack(says(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n"), "closed", "peer_identity", NOT_TLS),
    "HTTP/2 in clear": Attack(says(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "closed", "peer_identity", NOT_TLS),
    "SSH": Attack(says(b"SSH-2.0-x\r\n"), "closed", "peer_identity", NOT_TLS),
    "zeros": Attack(says(bytes(600)), "closed", "peer_identity", NOT_TLS),
    "SSL 2": Attack(says(b"\x80\x2e\x01\x00\x02" + bytes(40)), "closed", "peer_identity", NOT_TLS),
    "an endless record": Attack(says(b"\x16\x03\x01\xff\xff" + b"\x01" * 100), "closed", "peer_identity", "a TLS record of 65540 bytes"),
    "application data": Attack(says(b"\x17\x03\x03\x00\x05hello"), "closed", "peer_identity", NOT_TLS),
    "a record that is no hello": Attack(says(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"), "closed", "peer_identity", "does not begin with ClientHello"),
    "half a hello": Attack(says(lambda arena: hello(arena.sni())[:100]), "closed", "peer_identity", "closed in the middle"),
    "nothing": Attack(says(b""), "closed", "peer_identity", "closed without a word"),
    "TLS 1.2": Attack(asks_for(Arena.sni, tls12=True), "alert 70", "peer_identity", "no TLS 1.3"),
    "no ALPN": Attack(asks_for(Arena.sni, protocols=()), "alert 120", "peer_identity", "offers nothing by ALPN, not h2"),
    "another ALPN": Attack(asks_for(Arena.sni, protocols=("http/1.1",)), "alert 120", "peer_identity", "offers http/1.1 by ALPN, not h2"),
    "no name": Attack(asks_for(lambda _: ""), "alert 112", "peer_identity", "'' does not name a service"),
    "a plain name": Attack(asks_for(lambda _: "web"), "alert 112", "peer_identity", "web"),
    "another mesh's name": Attack(asks_for(lambda arena: arena.sni(domain=OTHER)), "alert 112", "peer_identity", OTHER),
    "a service of nobody": Attack(asks_for(lambda arena: arena.sni("nobody")), "alert 112", "peer_identity", "nobody is not registered on this host"),
    "a service of another host": Attack(asks_for(lambda arena: arena.sni("back")), "alert 112", "peer_identity", "back is not registered on this host"),
    "RST in the hello": Attack(resets(lambda arena: hello(arena.sni())[:100], after_answer=False), "gone", "peer_identity", "did not finish"),
    "RST in the handshake": Attack(resets(lambda arena: hello(arena.sni()), after_answer=True), "gone", "peer_identity", "did not finish"),
}  # fmt: skip

# --- 15008: certificates ---------------------------------------------------------------------------------------------


def shows(make: Callable[[Arena], Path | None]) -> Callable[[Arena], Act]:
    """A handshake with that certificate, and a call."""

    def begin(arena: Arena) -> Act:
        certificate = make(arena)

        def act() -> str:
            with arena.impostor.dial(certificate) as sock:
                status = status_of_call(arena, sock)
            return status.decode() if status else "closed"

        return act

    return begin


def status_of_call(arena: Arena, sock: ssl.SSLSocket) -> bytes:
    """What a CONNECT to `web` is answered; empty if it cannot even be asked, or is answered by an end."""
    try:
        session = Session(sock, 65_535)
        authority = f"{arena.victim.ipv4}:{WEB}".encode()
        return session.status(session.ask([(b":method", b"CONNECT"), (b":authority", authority)]))
    except OSError:
        return b""


def forged(**wrong: Any) -> Callable[[Arena], Act]:
    """A certificate by the mesh's own CA that departs from what is right in this; DOMAIN is the mesh's."""

    def make(arena: Arena) -> Path:
        uris = wrong.get("uris")
        if not uris:
            return arena.impostor.forged(**wrong)
        return arena.impostor.forged(**{**wrong, "uris": tuple(each.replace("DOMAIN", arena.domain) for each in uris)})

    return shows(make)


def below_a_leaf(arena: Arena) -> Path:
    """A workload's certificate signs another."""
    uris = (f"spiffe://{arena.domain}/ns/default/dc/{DATACENTER}/svc/mallory",)
    issuer = arena.impostor.forged(subject="mallory", uris=uris)
    key, begin, chain = issuer.read_text().partition("-----BEGIN CERTIFICATE-----")
    leaf = arena.impostor.forged(LocalCa(arena.domain, begin + chain, key))
    leaf.write_text(leaf.read_text() + begin + chain)
    return leaf


def uri(domain: str = "DOMAIN", path: str = f"ns/default/dc/{DATACENTER}/svc/shop") -> str:
    """A SPIFFE ID."""
    return f"spiffe://{domain}/{path}"


NOW = datetime.now(UTC)
DISTRUST = "showed a certificate that this mesh does not trust"
SIGNS = key_usage(digital_signature=True, key_cert_sign=True)
CERTIFICATES = {
    name: Attack(begin, "closed", "peer_identity", error)
    for name, begin, error in (
        ("no certificate", shows(lambda _: None), "did not finish a tunnel handshake"),
        ("expired", forged(begins=NOW - timedelta(days=2), ends=NOW - timedelta(hours=1)), "certificate has expired"),
        ("not yet valid", forged(begins=NOW + timedelta(hours=1), ends=NOW + timedelta(days=1)), "not yet valid"),
        ("two names", forged(uris=(uri(), uri().replace("shop", "web"))), "has 2 URIs"),
        ("no URI", forged(uris=()), "is not an SVID"),
        ("no alternative name", forged(uris=None, subject="shop"), "no subject alternative name"),
        ("another trust domain", forged(uris=(uri(OTHER),)), OTHER),
        ("another datacenter", forged(uris=(uri(path="ns/default/dc/dc2/svc/shop"),)), "dc2"),
        ("no service", forged(uris=(uri(path="agent/shop"),)), "agent/shop"),
        ("a trust domain alone", forged(uris=("spiffe://DOMAIN",)), "is not an SVID"),
        ("a CA", forged(ca=True, usage=SIGNS), "certificate is a CA's"),
        ("may sign", forged(usage=SIGNS), "may sign certificates"),
        ("may not speak", forged(usage=key_usage(key_agreement=True)), "digitalSignature"),
        ("another CA", shows(lambda arena: arena.impostor.forged(LocalCa.create(arena.domain, NOW))), DISTRUST),
        ("another mesh", shows(lambda arena: arena.impostor.forged(LocalCa.create(OTHER, NOW))), DISTRUST),
        ("below a leaf", shows(below_a_leaf), DISTRUST),
    )
}  # fmt: skip

# --- 15008: what a proven caller asks for ------------------------------------------------------------------------------


def calls(target: Callable[[Arena], str], source: str = "shop", service: str = "web", **extra: str) -> Callable[[Arena], Act]:
    """A CONNECT in a tunnel of its own."""

    def begin(arena: Arena) -> Act:
        certificate, authority = arena.impostor.svid(source), target(arena)
        return lambda: str(arena.impostor.call(certificate, authority, service, **extra))

    return begin


def at(host: str, port: int) -> Callable[[Arena], str]:
    """That port of a host, or of an address."""
    return lambda arena: f"{host if host[0].isdigit() or host[0] == '[' else arena.lab.host(host).ipv4}:{port}"


def asks(headers: Headers) -> Callable[[Arena], Act]:
    """A stream that begins with these, in a tunnel of its own."""

    def begin(arena: Arena) -> Act:
        certificate = arena.impostor.svid("shop")

        def act() -> str:
            with Session(arena.impostor.dial(certificate), 65_535) as session:
                return session.status(session.ask(headers)).decode() or "reset"

        return act

    return begin


def breaks(data: bytes) -> Callable[[Arena], Act]:
    """A good tunnel, and then that."""

    def begin(arena: Arena) -> Act:
        certificate = arena.impostor.svid("shop")

        def act() -> str:
            with Session(arena.impostor.dial(certificate), 65_535) as session:
                session.raw([data])
                return "closed" if session.is_ended() else "open"

        return act

    return begin


def resets_after_handshake(*, after_call: bool) -> Callable[[Arena], Act]:
    """A good tunnel that is torn down, before anything was asked or with an open connection in it."""

    def begin(arena: Arena) -> Act:
        certificate = arena.impostor.svid("shop")

        def act() -> str:
            sock = arena.impostor.dial(certificate)
            if after_call:
                assert status_of_call(arena, sock) == b"200"
            reset(sock)
            return "gone"

        return act

    return begin


def calls_registered(port: int) -> Callable[[Arena], Act]:
    """A call to a port of the agent at which somebody has registered a service."""

    def begin(arena: Arena) -> Act:
        name = f"evil-{port}"
        arena.lab.register("host2", name, port)
        look.allow(arena.lab, "shop", name)
        return calls(at("host2", port), service=name)(arena)

    return begin


ELSEWHERE = {
    "ssh on loopback": at("127.0.0.1", 22), "ssh on loopback, IPv6": at("[::1]", 22), "ssh": at("host2", 22),
    "the metrics": at("127.0.0.1", limits.METRICS_PORT), "any address": at("0.0.0.0", WEB),
    "an unregistered port": at("host2", 9), "another service's port": at("host2", DEAD),
    "another host's service": at("host1", BACK), "the catalog": at("hub", 8501),
    **{f"{host}:{port}": at(host, port) for host in ("127.0.0.1", "host1", "host2")
       for port in (limits.OUTBOUND_PORT, limits.INBOUND_PORT, limits.TUNNEL_PORT)},
}  # fmt: skip
STREAMS = {
    **{f"a call to {name}": Attack(calls(target), "400", "bad_destination") for name, target in ELSEWHERE.items()},
    "a name instead of an address": Attack(calls(lambda _: "web:80"), "400", "bad_destination"),
    "a service that the target is not": Attack(calls(at("host2", WEB), service="dead"), "400", "bad_destination"),
    "a caller that may not": Attack(calls(at("host2", WEB), source="mallory"), "401", "denied"),
    "two agents passed": Attack(calls(at("host2", WEB), nodeagent_hops="2"), "400", "loop"),
    **{f"a service registered at {port}": Attack(calls_registered(port), "400", "loop", "is a port of the agent itself")
       for port in (limits.OUTBOUND_PORT, limits.INBOUND_PORT, limits.TUNNEL_PORT)},
    "no authority": Attack(asks([(b":method", b"CONNECT")]), "reset", "bad_destination", "malformed"),
    "HEADERS of no stream": Attack(breaks(frame(HEADERS, flags=4)), "closed", "peer_protocol", "HTTP/2 error 1 PROTOCOL_ERROR"),
    "random bytes": Attack(breaks(b"\xff" * 20_000), "closed", "peer_protocol", "HTTP/2 error 6 FRAME_SIZE_ERROR"),
    "RST with an open connection": Attack(resets_after_handshake(after_call=True), "gone", "peer_lost"),
    "RST after the handshake": Attack(resets_after_handshake(after_call=False), "gone", ""),
}  # fmt: skip
