"""/v1/acl/token: tokens, in a small form of Consul's: node and service identities, or one of two policies."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from nodeagent import limits
from nodeagent.catalog.state import RESERVED_SERVICES
from nodeagent.embedded.access import ANY_SERVICE, Kind, ManageTokens, ReadMesh, parse_claimable
from nodeagent.embedded.asking import Answer, Ask
from nodeagent.embedded.body import shaped
from nodeagent.embedded.names import HostName, NameOrAny
from nodeagent.embedded.refusal import BadRequest, NotFound
from nodeagent.embedded.registration import check_datacenter
from nodeagent.embedded.tokens import Token, create_token, delete_token, read_token, read_tokens

MANAGEMENT = "global-management"
READ_ONLY = "builtin/global-read-only"
_POLICIES: dict[str, Kind] = {MANAGEMENT: "management", READ_ONLY: "read"}
"""Consul's own names of what a token may do in general."""
_UNSUPPORTED = (
    "Local", "Roles", "ExpirationTTL", "ExpirationTime", "Namespace", "Partition", "AccessorID", "SecretID", "AuthMethod", "Type", "Rules",
    "TemplatedPolicies",
)  # fmt: skip


class _Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """Keys as Consul writes them."""


class _Policy(_Shape, frozen=True):
    name: Literal["global-management", "builtin/global-read-only"]


class _Node(_Shape, frozen=True):
    node_name: HostName
    datacenter: str = ""


class _Service(_Shape, frozen=True):
    service_name: NameOrAny
    datacenters: tuple[str, ...] = ()


class TokenRequest(_Shape, frozen=True):
    """What a new token is to be for."""

    description: Annotated[str, msgspec.Meta(max_length=256)] = ""
    node_identities: tuple[_Node, ...] = ()
    service_identities: tuple[_Service, ...] = ()
    policies: tuple[_Policy, ...] = ()
    addresses: Annotated[tuple[str, ...], msgspec.Meta(max_length=limits.TOKEN_ADDRESSES)] = ()
    """Addresses and CIDRs that it may claim; Consul has no such key."""

    def kind(self) -> Kind:
        """What the token is for.

        Raises:
            BadRequest: nothing, or several things at once.
        """
        if len(self.policies) + len(self.node_identities) > 1 or not (self.policies or self.node_identities or self.service_identities):
            raise BadRequest(
                f"give one NodeIdentities (with ServiceIdentities), ServiceIdentities alone, or Policies [{{Name: {MANAGEMENT}}}]"
                f" or [{{Name: {READ_ONLY}}}]"
            )
        if self.policies and (self.service_identities or self.addresses):
            raise BadRequest("ServiceIdentities and Addresses belong to tokens of hosts and services, not to Policies")
        if not self.node_identities and any(identity.service_name == ANY_SERVICE for identity in self.service_identities):
            raise BadRequest(f"ServiceIdentities {ANY_SERVICE} is for tokens of one host: name the services, or give NodeIdentities")
        for identity in self.service_identities:
            if identity.service_name in RESERVED_SERVICES:
                raise BadRequest(f"ServiceIdentities: {identity.service_name!r} is reserved: no service may be registered under it")
        if self.policies:
            return _POLICIES[self.policies[0].name]
        return "node" if self.node_identities else "service"

    def datacenters(self) -> Iterator[str]:
        """Those in which alone it is to count."""
        yield from (identity.datacenter for identity in self.node_identities)
        yield from (datacenter for identity in self.service_identities for datacenter in identity.datacenters)

    def claimable(self) -> tuple[str, ...]:
        """The addresses, each in its one spelling.

        Raises:
            BadRequest: one is none.
        """
        try:
            return tuple(dict.fromkeys(map(parse_claimable, self.addresses)))
        except ValueError as error:
            raise BadRequest(f"Addresses: {error}") from None


async def create(ask: Ask) -> Answer:
    """PUT /v1/acl/token: the only answer that ever shows the secret."""
    ask.check(ManageTokens())
    asked = shaped(await ask.json(), TokenRequest, _UNSUPPORTED)
    for datacenter in asked.datacenters():
        check_datacenter(datacenter, ask.server.realm.datacenter)
    kind = asked.kind()
    node = str(asked.node_identities[0].node_name) if asked.node_identities else ""
    services = tuple(sorted({str(identity.service_name) for identity in asked.service_identities}))
    addresses, now = asked.claimable(), ask.server.now().timestamp()
    made = await ask.write(
        lambda change: create_token(
            change,
            kind,
            now=now,
            node=node,
            services=services,
            addresses=addresses,
            description=asked.description,
        )
    )
    ask.server.store.noticed.made(made.token, ask.caller.accessor)
    return Answer(token_json(made.token) | {"SecretID": made.secret})


async def every(ask: Ask) -> Answer:
    """GET /v1/acl/tokens."""
    ask.check(ManageTokens())
    found = await ask.server.store.read_aside(ask.caller.accessor, lambda connection: [token_json(token) for token in read_tokens(connection)])
    return Answer(found)


async def one(ask: Ask) -> Answer:
    """GET /v1/acl/token/:accessor."""
    ask.check(ManageTokens())
    return Answer(token_json(_found(ask, ask.path["accessor"])))


async def read_self(ask: Ask) -> Answer:
    """GET /v1/acl/token/self: what the caller's own token is for."""
    ask.check(ReadMesh())
    return Answer(token_json(_found(ask, ask.caller.accessor)))


async def delete(ask: Ask) -> Answer:
    """DELETE /v1/acl/token/:accessor: in force with the next request of its holder, and agents hear it at once."""
    ask.check(ManageTokens())
    accessor, now = ask.path["accessor"], ask.server.now().timestamp()
    if not await ask.write(lambda change: delete_token(change, accessor, now)):
        raise NotFound(f"there is no token with the accessor {accessor!r}")
    ask.server.store.noticed.revoked(accessor, ask.caller.accessor)
    return Answer(body=True)


def token_json(token: Token) -> dict[str, Any]:
    """A token without its secret."""
    caller = token.caller
    return {
        "AccessorID": caller.accessor,
        "Description": token.description,
        "NodeIdentities": [{"NodeName": caller.node}] if caller.node else [],
        "ServiceIdentities": [{"ServiceName": name} for name in caller.services],
        "Addresses": caller.addresses,
        "FixedAddresses": caller.fixed,
        "Policies": [{"Name": name} for name, kind in _POLICIES.items() if kind == caller.kind],
        "CreateTime": datetime.fromtimestamp(token.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "CreateIndex": token.create_index,
        "ModifyIndex": token.create_index,
    }


def _found(ask: Ask, accessor: str) -> Token:
    token = ask.server.store.read(lambda connection: read_token(connection, accessor))
    if token is None:
        raise NotFound(f"there is no token with the accessor {accessor!r}")
    return token
