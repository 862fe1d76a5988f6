"""Which changes concern this host itself."""

import pytest
from hypothesis import given

from nodeagent.catalog.compiler import compile_snapshot
from nodeagent.catalog.concern import concerns_host
from nodeagent.catalog.diff import diff
from nodeagent.catalog.state import CatalogState
from nodeagent.control.identity import services_spoken_for
from nodeagent.control.supervisor import frame_of
from nodeagent.model.snapshot import Snapshot
from tests.support.mesh import HOST1, HOST2, HOST3, config, instance, mesh
from tests.support.states import states

CONFIGS = (
    config('[service.web]\nloopback = "enforce"\n'),
    config('[intercept]\nfail = "open"\n[service.web]\nfail = "closed"\n', mode="permissive"),
    config('[service.web]\nfail = "open"\n', mode="permissive"),
)


def concerned(old: Snapshot, new: Snapshot) -> bool:
    return concerns_host(old, new, diff(old, new))


@given(states, states)
def test_what_concerns_nobody_here_changes_nothing_here(first: CatalogState, then: CatalogState) -> None:
    """Not what is captured, not what may bypass the agent, not who has certificates."""
    for settings in CONFIGS:
        old, new = (compile_snapshot(said, settings, trust_domain="td", generation=n) for n, said in enumerate((first, then), 1))
        if not concerned(old, new):
            assert frame_of(old) == frame_of(new)
            assert services_spoken_for(old, settings) == services_spoken_for(new, settings)


@pytest.mark.parametrize(("then", "is_so"), [
    ({"web": (instance(HOST2, 80, healthy=False),)}, False),
    ({"web": (instance(HOST2, 80), instance(HOST3, 80))}, False),
    ({"more": (instance(HOST2, 81),)}, False),
    ({"more": (instance(HOST2, 81, ips=("192.0.2.1",)),)}, True),
    ({"more": (instance(HOST1, 81),)}, True),
    ({"shop": ()}, True),
])  # fmt: skip
def test_endpoints_of_other_hosts_concern_nobody_here(then: dict[str, tuple], *, is_so: bool) -> None:
    """Most of a large mesh's changes."""
    assert concerned(mesh(), mesh(generation=2, **then)) is is_so


def test_intentions_between_others_concern_nobody_here() -> None:
    """Those of a service of this host are its workers' business; what is captured is asked again, to be sure."""
    assert not concerned(mesh(), mesh("shop -> web allow", generation=2))
    assert concerned(mesh(), mesh("web -> shop allow", generation=2))
