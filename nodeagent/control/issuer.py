"""Who signs: the embedded catalog's CA, which is sent a request, or Connect's, whose local agent makes keys itself; found out by asking."""

import asyncio

import msgspec

from certs.csr import new_key_and_csr
from certs.errors import CertificateError
from certs.spiffe import SpiffeId, service_id
from certs.svid import Svid
from nodeagent import limits
from nodeagent.control.consul import Catalog, CatalogRefused, service_path
from nodeagent.control.environment import Environment
from nodeagent.control.pace import next_index
from nodeagent.control.trust import Trust
from nodeagent.errors import CatalogError
from nodeagent.observe.log import open_log
from nodeagent.observe.metrics import Metrics

SIGN = "/v1/nodeagent/sign"
LEAF = "/v1/agent/connect/ca/leaf/"
_NOT_SERVED = (404, 405, 501)
_STALE_CSR = "CSR from a different trust domain"
"""So Consul's servers refuse what an agent asks for that still knows the roots of others."""
_STALE = "this host's Consul agent keeps what it knew of the servers before, for ten minutes or longer; restart it (systemctl restart consul)"

_log = open_log()


class _Signed(msgspec.Struct, rename={"cert_pem": "CertPEM"}):
    cert_pem: str


class _Leaf(msgspec.Struct, rename={"cert_pem": "CertPEM", "key_pem": "PrivateKeyPEM"}):
    cert_pem: str
    key_pem: str

    def __repr__(self) -> str:
        return "_Leaf()"


class LeafWithheld(CatalogError):
    """This host's own Consul agent gives none that is good, for now: it may at any moment, and to ask it costs no server anything."""


class Issuer:
    """Owned by Identity."""

    def __init__(self, catalog: Catalog, datacenter: str, metrics: Metrics, env: Environment) -> None:
        self.is_connect = False
        """Whether Connect's CA signs, as far as is known."""
        self.offered = ""
        """The trust domain that the catalog spoke of last, whether or not it is in force."""
        self._catalog = catalog
        self._datacenter = datacenter
        self._metrics = metrics
        self._now = env.now
        self._asks = asyncio.Semaphore(limits.SVID_ASKS)
        self._waits = asyncio.Semaphore(limits.LEAF_WAITS)
        """Of their own: whoever waits whether the agent renews is in no haste, and must not keep a new service from its first one."""
        self._indexes: dict[str, int] = {}
        """Of the last leaf that was answered, by service."""

    async def issue(self, service: str, trust: Trust) -> Svid:
        """A certificate that is good now. From Connect it may be the one before: its agent renews at a time of its own.

        Raises:
            CatalogError: there is none; says why.
        """
        spiffe_id = service_id(trust.bundle.trust_domain, self._datacenter, service)
        try:
            async with self._waits if self.is_connect and self._indexes.get(service) else self._asks:
                svid = await self._ask(service, spiffe_id)
        except CatalogError as error:
            self._metrics.add("nodeagent_svid_requests_total", 1, "failed")
            if isinstance(error, CatalogRefused) and error.status == 403:
                kind = LeafWithheld if self.is_connect else CatalogError
                raise kind(f"{error}; {self._right_for(service)}") from error
            if _STALE_CSR in str(error):
                raise LeafWithheld(f"{error}; {_STALE}") from error
            raise
        self._metrics.add("nodeagent_svid_requests_total", 1, "issued")
        return svid

    def forget(self, service: str) -> None:
        """Nobody asks for this one any more."""
        self._indexes.pop(service, None)

    def _right_for(self, service: str) -> str:
        if self.is_connect:
            return f'has this host\'s token the right to speak for it: service "{service}" {{ policy = "write" }}?'
        return f"is {service} in the list of this host's token?"

    async def _ask(self, service: str, spiffe_id: SpiffeId) -> Svid:
        """From whoever signed the last one; where that is not served any more, from the other."""
        was_connect = self.is_connect
        first, second = (self._fetch, self._sign) if was_connect else (self._sign, self._fetch)
        try:
            return await first(service, spiffe_id)
        except CatalogRefused as error:
            if error.status not in _NOT_SERVED:
                raise
            refusal = error
        try:
            svid = await second(service, spiffe_id)
        except CatalogRefused as error:
            if error.status in _NOT_SERVED:
                raise refusal from error
            self._note(is_connect=not was_connect)
            raise
        self._note(is_connect=not was_connect)
        return svid

    def _note(self, *, is_connect: bool) -> None:
        if is_connect != self.is_connect:
            self.is_connect = is_connect
            _log.info("ca_found", connect=is_connect)

    async def _sign(self, service: str, spiffe_id: SpiffeId) -> Svid:
        """By a request: the key never leaves this host."""
        key_pem, csr_pem = new_key_and_csr(spiffe_id)
        body = await self._catalog.put(SIGN, {"CSR": csr_pem})
        try:
            return _checked(Svid.from_pem(msgspec.json.decode(body, type=_Signed).cert_pem, key_pem), spiffe_id)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, CertificateError) as error:
            raise CatalogError(f"the CA's answer for {service} cannot be used: {error}") from error

    async def _fetch(self, service: str, spiffe_id: SpiffeId) -> Svid:
        """Connect's leaf. A read without an index may be answered from the agent's cache with one that has ended."""
        svid = await self._read_leaf(service, spiffe_id)
        if svid.not_after.timestamp() <= self._now():
            svid = await self._read_leaf(service, spiffe_id)
        if svid.not_after.timestamp() <= self._now():
            self.forget(service)
            raise CatalogError(
                f"the Consul agent's certificate for {service} ended at {svid.not_after:%Y-%m-%d %H:%M:%S} UTC, and it gives no other: "
                "is it in touch with its servers, and are the clocks right?"
            )
        return svid

    async def _read_leaf(self, service: str, spiffe_id: SpiffeId) -> Svid:
        """The newest there is, which the agent makes when the one that we know is due; asked for in this way alone it looks."""
        known = self._indexes.get(service, 0)
        answer = await self._catalog.read(service_path(LEAF, service), known, limits.LEAF_WAIT_S)
        try:
            leaf = msgspec.json.decode(answer.body, type=_Leaf)
            svid = Svid.from_pem(leaf.cert_pem, leaf.key_pem)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, CertificateError):
            # The cause stays out of the message: the answer holds a key, and parsers like to quote what they could not read.
            raise CatalogError(f"the Consul agent's answer for {service} cannot be used: no certificate with its key") from None
        self._indexes[service] = next_index(known, answer.index)
        self._check_domain(svid, spiffe_id)
        return _checked(svid, spiffe_id)

    def _check_domain(self, svid: Svid, wanted: SpiffeId) -> None:
        """Whether the leaf is of the trust domain that is in force.

        Raises:
            LeafWithheld: an agent's cache outlives its servers, and no header makes it look; or the catalog's domain is not in force yet.
        """
        found = svid.spiffe_id.trust_domain
        if found == wanted.trust_domain:
            return
        if found == self.offered:
            raise LeafWithheld(f"the Consul agent's certificates are of the trust domain {found} by now, which is not in force yet")
        raise LeafWithheld(f"the Consul agent's certificate is of the trust domain {found}, and the catalog's is {wanted.trust_domain}: {_STALE}")


def _checked(svid: Svid, spiffe_id: SpiffeId) -> Svid:
    """The certificate, if it is the one that was asked for."""
    if svid.spiffe_id != spiffe_id:
        raise CatalogError(f"the CA signed {svid.spiffe_id} instead of {spiffe_id}; is host.datacenter the catalog's?")
    return svid
