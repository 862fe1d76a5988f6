"""Contexts from a key ring: TLS 1.3, both sides prove an SVID, nothing else is accepted."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest

from certs.local_ca import LocalCa
from nodeagent.errors import NoSvid, PeerIdentity
from nodeagent.proxy.tls import Keys, distrust, verify_peer
from tests.support.twohosts import TRUST_DOMAIN, key_ring


@pytest.fixture(scope="module")
def ca() -> LocalCa:
    return LocalCa.create(TRUST_DOMAIN, datetime.now(UTC))


def keys_of(ca: LocalCa, *services: str) -> Keys:
    keys = Keys()
    keys.replace(key_ring(ca, *services))
    return keys


def shaken(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake in memory."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(back, there, server_hostname="x"), server.wrap_bio(there, back, server_side=True)
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends


def test_both_sides_prove_who_they_are(ca: LocalCa) -> None:
    """TLS 1.3, h2, and the SPIFFE IDs of caller and callee."""
    now = datetime.now(UTC).timestamp()
    keys = keys_of(ca, "shop", "web")
    client, server = shaken(keys.context("shop", is_server=False, now=now), keys.context("web", is_server=True, now=now))
    assert client.version() == server.version() == "TLSv1.3"
    assert str(verify_peer(client, now).spiffe_id).endswith("/svc/web")
    assert str(verify_peer(server, now).spiffe_id).endswith("/svc/shop")


def test_a_server_gives_no_session_to_resume(ca: LocalCa) -> None:
    """Resumption would skip the client's authentication."""
    context = keys_of(ca, "web").context("web", is_server=True, now=datetime.now(UTC).timestamp())
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET


def test_an_old_version_finds_nobody(ca: LocalCa) -> None:
    """TLS 1.2 is refused by the context itself."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shaken(client, keys_of(ca, "web").context("web", is_server=True, now=datetime.now(UTC).timestamp()))


def test_a_client_without_a_certificate_is_refused(ca: LocalCa) -> None:
    """Mutual means mutual."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError, match="certificate"):
        shaken(client, keys_of(ca, "web").context("web", is_server=True, now=datetime.now(UTC).timestamp()))


def test_a_stranger_s_ca_is_refused(ca: LocalCa) -> None:
    """Same names, other roots."""
    stranger = keys_of(LocalCa.create(TRUST_DOMAIN, datetime.now(UTC)), "shop")
    now = datetime.now(UTC).timestamp()
    with pytest.raises(ssl.SSLError):
        shaken(stranger.context("shop", is_server=False, now=now), keys_of(ca, "web").context("web", is_server=True, now=now))


def test_no_or_expired_certificate_is_said(ca: LocalCa) -> None:
    """Not an OpenSSL riddle: the reason no_svid, and where to look."""
    keys = keys_of(ca, "shop")
    with pytest.raises(NoSvid, match="no certificate for web"):
        keys.context("web", is_server=True, now=datetime.now(UTC).timestamp())
    with pytest.raises(NoSvid, match="expired"):
        keys.context("shop", is_server=False, now=(datetime.now(UTC) + timedelta(hours=2)).timestamp())


def test_a_certificate_refused_for_its_time_tells_whose_clock_is_wrong(ca: LocalCa) -> None:
    """Who holds a certificate that is not valid yet knows that it is his own; nobody else can know."""
    now, keys, refused = datetime.now(UTC), keys_of(ca, "shop"), ssl.SSLCertVerificationError("x")
    refused.verify_message = "certificate is not yet valid"
    for at, told in ((now, "clocks of both hosts right?"), (now - timedelta(hours=25), "this host's clock is behind")):
        said = str(distrust(refused, "host2", keys.doubt(at.timestamp())))
        assert said.startswith("host2 showed a certificate that this mesh does not trust: certificate is not yet valid; ")
        assert told in said
    refused.verify_message = "unable to get local issuer certificate"
    assert "clock" not in str(distrust(refused, "host2", keys.doubt(0.0)))
    assert distrust(OSError(), "host2", "") is None


def test_another_protocol_than_h2_is_refused(ca: LocalCa) -> None:
    """OpenSSL lets an ALPN mismatch pass: we do not."""
    now = datetime.now(UTC).timestamp()
    keys = keys_of(ca, "shop", "web")
    client_context = keys.context("shop", is_server=False, now=now)
    client_context.set_alpn_protocols(["http/1.1"])
    client, _ = shaken(client_context, keys.context("web", is_server=True, now=now))
    with pytest.raises(PeerIdentity, match="does not speak h2"):
        verify_peer(client, now)


def test_contexts_are_made_once_per_certificate(ca: LocalCa) -> None:
    """Kept while another service's is renewed, and made anew after its own renewal."""
    ring = key_ring(ca, "shop")
    keys = Keys()
    keys.replace(ring)
    now = datetime.now(UTC).timestamp()
    first = keys.context("shop", is_server=False, now=now)
    keys.replace(type(ring)(ring.trust_domain, ring.bundle_pem, (*ring.svids, *key_ring(ca, "web").svids)))
    assert keys.context("shop", is_server=False, now=now) is first
    keys.replace(key_ring(ca, "shop"))
    assert keys.context("shop", is_server=False, now=now) is not first
