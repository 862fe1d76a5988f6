"""jwt-provider: whose tokens are believed, and where they stand in a request."""

from typing import Literal

import msgspec

from nodeagent.model.policy.values import Count, Duration, Free, Meta, Name, Part, Scope, Text


class LocalKeys(Part, frozen=True):
    """Keys that are given here, in base64, or lie in a file."""

    jwks: str = msgspec.field(name="JWKS", default="")
    filename: Text = ""


class Backoff(Part, frozen=True):
    """How long to wait between tries."""

    base_interval: Duration = Duration(0)
    max_interval: Duration = Duration(0)


class KeyRetries(Part, frozen=True):
    """How often keys are asked for again."""

    num_retries: Count = 0
    retry_policy_back_off: Backoff | None = None


class RemoteKeys(Part, frozen=True):
    """Keys that are fetched."""

    uri: Text = msgspec.field(name="URI", default="")
    request_timeout_ms: Count = 0
    cache_duration: Duration = Duration(0)
    fetch_asynchronously: bool = False
    use_sni: bool = msgspec.field(name="UseSNI", default=False)
    retry_policy: KeyRetries | None = None
    jwks_cluster: Free = msgspec.field(name="JWKSCluster", default_factory=dict)


class KeySet(Part, frozen=True):
    """The keys that sign tokens: given, or fetched."""

    local: LocalKeys | None = None
    remote: RemoteKeys | None = None


class InHeader(Part, frozen=True):
    """A token in a header."""

    name: Text = ""
    value_prefix: Text = ""
    forward: bool = False


class InNamed(Part, frozen=True):
    """A token in a parameter or cookie."""

    name: Text = ""


class Location(Part, frozen=True):
    """One place where a token may stand."""

    header: InHeader | None = None
    query_param: InNamed | None = None
    cookie: InNamed | None = None


class Forwarding(Part, frozen=True):
    """Which header carries the token's payload to the application."""

    header_name: Text = ""
    pad_forward_payload_header: bool = False


class TokenCache(Part, frozen=True):
    """How many verified tokens are remembered."""

    size: Count = 0


class JwtProvider(Part, frozen=True):
    """Whose tokens are believed."""

    kind: Literal["jwt-provider"]
    name: Name
    namespace: Scope = ""
    partition: Scope = ""
    meta: Meta = {}
    json_web_key_set: KeySet | None = msgspec.field(name="JSONWebKeySet", default=None)
    issuer: Text = ""
    audiences: tuple[Text, ...] = ()
    locations: tuple[Location, ...] = ()
    forwarding: Forwarding | None = None
    clock_skew_seconds: Count = 0
    cache_config: TokenCache | None = None
