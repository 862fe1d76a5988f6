"""service-intentions: who may call a service, by connection or by request."""

from typing import Annotated, Literal

import msgspec

from nodeagent.model.action import Action
from nodeagent.model.policy.http import HeaderMatch
from nodeagent.model.policy.values import Free, Meta, Name, NameOrAny, Part, Scope, Text


class ClaimMatch(Part, frozen=True):
    """A claim of a token that must have a value."""

    path: tuple[Text, ...]
    value: Text


class JwtSource(Part, frozen=True):
    """A jwt-provider whose tokens are taken, and what they must claim."""

    name: Name
    verify_claims: tuple[ClaimMatch, ...] = ()


class JwtNeed(Part, frozen=True):
    """A token of one of these providers is needed."""

    providers: tuple[JwtSource, ...] = ()


class PermissionMatch(Part, frozen=True):
    """Which requests a permission speaks of; the same as a router's, without its parameters."""

    path_exact: Text = ""
    path_prefix: Text = ""
    path_regex: Text = ""
    methods: tuple[Text, ...] = ()
    header: tuple[HeaderMatch, ...] = ()


class Permission(Part, frozen=True):
    """What is done with requests that match; the first that does decides."""

    action: Action
    http: PermissionMatch | None = msgspec.field(name="HTTP", default=None)
    jwt: JwtNeed | None = msgspec.field(name="JWT", default=None)


class Source(Part, frozen=True):
    """What one source may."""

    name: NameOrAny
    action: Action | None = None
    permissions: tuple[Permission, ...] = ()
    description: Annotated[str, msgspec.Meta(max_length=512)] = ""
    type: Literal["", "consul"] = ""
    precedence: int = 0
    """The catalog's to say; what a writer says is not believed."""
    namespace: Scope = ""
    partition: Scope = ""
    peer: Text = ""
    sameness_group: Text = ""
    legacy_id: Text = msgspec.field(name="LegacyID", default="")
    legacy_meta: Free = {}
    legacy_create_time: Text = ""
    legacy_update_time: Text = ""


class ServiceIntentions(Part, frozen=True):
    """All sources of one destination; exactly one decides about a pair."""

    kind: Literal["service-intentions"]
    name: NameOrAny
    namespace: Scope = ""
    partition: Scope = ""
    meta: Meta = {}
    jwt: JwtNeed | None = msgspec.field(name="JWT", default=None)
    sources: tuple[Source, ...] = ()
