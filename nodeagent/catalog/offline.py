"""The snapshot that entries alone would make, without a catalog: for a test of them before they are applied."""

from collections.abc import Collection, Iterable
from typing import TypeVar

import msgspec

from nodeagent.catalog.compiler import compile_snapshot
from nodeagent.catalog.policy.entries import Key, Spec
from nodeagent.catalog.policy.references import protocol_of, references_of
from nodeagent.catalog.state import CatalogState, IntentionRow, parse_intentions
from nodeagent.config import parse_config
from nodeagent.model.intention import ANY
from nodeagent.model.policy.defaults import MeshEntry, ProxyDefaults, ServiceDefaults
from nodeagent.model.policy.intentions import ServiceIntentions
from nodeagent.model.policy.jwt import JwtProvider
from nodeagent.model.policy.own import RetryBudget
from nodeagent.model.policy.resolving import ServiceResolver
from nodeagent.model.policy.routing import ServiceRouter, ServiceSplitter
from nodeagent.model.policy.values import body_of
from nodeagent.model.snapshot import Snapshot

_CONFIG = '[host]\nname = "nowhere"\naddresses = ["192.0.2.1"]\n[catalog]\naddress = "https://192.0.2.2:8501"\n'
S = TypeVar("S")


def offline_snapshot(specs: Collection[Spec]) -> Snapshot:
    """As an agent would compile it, with every service that an entry names, and with no instance of any."""
    config = parse_config(_CONFIG, "policy")
    return compile_snapshot(_state_of(specs), config, trust_domain="nowhere.consul", generation=0)


def _state_of(specs: Collection[Spec]) -> CatalogState:
    entries = {Key(spec.kind, spec.name): spec for spec in specs}
    names = {name for name in _named(specs) if name != ANY}
    mesh = next((spec for spec in specs if isinstance(spec, MeshEntry)), None)
    return CatalogState(
        instances=dict.fromkeys(names, ()),
        intentions=_intentions(specs),
        protocols={name: protocol_of(entries, name) for name in names},
        routers=_of(specs, ServiceRouter),
        splitters=_of(specs, ServiceSplitter),
        resolvers=_of(specs, ServiceResolver),
        upstreams={name: each.upstream_config for name, each in _of(specs, ServiceDefaults).items() if each.upstream_config},
        budgets=_of(specs, RetryBudget),
        normalization=mesh.http.incoming.request_normalization if mesh and mesh.http and mesh.http.incoming else None,
    )


def _of(specs: Iterable[Spec], kind: type[S]) -> dict[str, S]:
    return {spec.name: spec for spec in specs if isinstance(spec, kind)}


def _intentions(specs: Iterable[Spec]) -> tuple[IntentionRow, ...]:
    """As they are read from the catalog."""
    return parse_intentions(msgspec.json.encode([body_of(spec) for spec in specs if isinstance(spec, ServiceIntentions)]))


def _named(specs: Iterable[Spec]) -> Iterable[str]:
    for spec in specs:
        if not isinstance(spec, (MeshEntry, ProxyDefaults, JwtProvider)):
            yield spec.name
        yield from (reference.service for reference in references_of(spec))
        if isinstance(spec, ServiceIntentions):
            yield from (source.name for source in spec.sources)
