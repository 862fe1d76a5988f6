"""What follows from a change is compiled by itself, and is what compiling everything would give."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.catalog import compilation as module
from nodeagent.catalog.codec import apply_delta, decode_delta, decode_snapshot, encode_delta, encode_snapshot
from nodeagent.catalog.compilation import Compilation, compilation_steps
from nodeagent.catalog.compiler import compile_snapshot, notes_of
from nodeagent.catalog.diff import diff
from nodeagent.catalog.state import CatalogState
from nodeagent.model.service import Host
from nodeagent.model.snapshot import Snapshot
from tests.support.mesh import HOST1, HOST2, HOST3, HOSTS, config, instance, intention, state
from tests.support.states import states
from tests.support.steps import finish

CONFIG = config('[service.web]\nmode = "permissive"\n')


def made(first: CatalogState) -> Compilation:
    """All of it, as generation 1."""
    return finish(compilation_steps(first, CONFIG, trust_domain="td", generation=1))


def whole(said: CatalogState, generation: int) -> Snapshot:
    """All of it compiled anew."""
    return compile_snapshot(said, CONFIG, trust_domain="td", generation=generation)


def large(services: int, **others: tuple) -> CatalogState:
    """So many services of two instances on host2 and host3."""
    named = {f"s{n}": (instance(HOST2, 1000 + n), instance(HOST3, 1000 + n)) for n in range(services)}
    return CatalogState(HOSTS, {**named, **others}, tuple(intention(f"web -> s{n} allow") for n in range(services)))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The services that are compiled."""
    names: list[str] = []
    real = module.service_of

    def service_of(name: str, *rest: object) -> object:
        names.append(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "service_of", service_of)
    return names


@given(st.lists(states, min_size=2, max_size=4))
def test_following_gives_what_compiling_all_would(said: list[CatalogState]) -> None:
    """Whatever comes after whatever; and the deltas take a worker to the same snapshot."""
    compilation = made(said[0])
    worker = decode_snapshot(encode_snapshot(compilation.snapshot))
    for generation, then in enumerate(said[1:], 2):
        delta = finish(compilation.follow_steps(then, generation))
        assert whole(then, compilation.snapshot.generation) == compilation.snapshot
        assert whole(then, 1).nearby == compilation.snapshot.nearby
        assert set(notes_of(then)) == set(compilation.notes)
        if delta is not None:
            worker = apply_delta(worker, decode_delta(encode_delta(delta)))
        assert compilation.snapshot == worker


@pytest.mark.parametrize("services", [10, 1000])
def test_one_endpoint_compiles_its_service_alone(compiled: list[str], services: int) -> None:
    """However many others there are: neither they nor their rows are touched, and what goes to workers is no longer."""
    first = large(services)
    compilation = made(first)
    old = compilation.snapshot
    then = large(services, s7=(instance(HOST2, 1007, healthy=False), instance(HOST3, 1007)))
    then = CatalogState(first.hosts, {**first.instances, "s7": then.instances["s7"]}, first.intentions)
    steps = compilation.follow_steps(then, 2)
    with pytest.raises(StopIteration) as done:
        next(steps)
    assert ["s7"] == compiled
    assert 400 > len(encode_delta(done.value.value))
    new = compilation.snapshot
    assert all(new.services[name] is old.services[name] for name in old.services if name != "s7")
    assert (old.hosts, old.host_by_ip, old.mesh) == (new.hosts, new.host_by_ip, new.mesh)
    assert new.hosts is old.hosts


def test_one_intention_compiles_its_destination_alone(compiled: list[str]) -> None:
    """Although the catalog tells all of them anew."""
    compilation = made(large(20))
    then = large(20)
    finish(compilation.follow_steps(CatalogState(then.hosts, then.instances, (*then.intentions, intention("cart -> s3 deny"))), 2))
    assert ["s3"] == compiled


def test_that_some_services_are_not_watched_any_more_is_told() -> None:
    """And that all are; else workers ask on first use for ever, or never."""
    compilation = made(large(5))
    for generation, is_late in ((2, True), (3, False)):
        delta = finish(compilation.follow_steps(msgspec.structs.replace(large(5), is_late=is_late), generation))
        assert delta is not None
        assert delta.mesh == compilation.snapshot.mesh
        assert compilation.snapshot.mesh.is_late is is_late


def test_what_changes_nothing_is_no_delta() -> None:
    """The snapshot is the same, with its number."""
    compilation = made(large(5))
    old = compilation.snapshot
    assert finish(compilation.follow_steps(large(5), 2)) is None
    assert compilation.snapshot is old


def test_who_lost_an_address_gets_it_back() -> None:
    """Two services meet at one address; the one that decides goes."""
    both = {"a": (instance(HOST2, 80, id_="a"),), "b": (instance(HOST2, 80, id_="b"),)}
    compilation = made(CatalogState(HOSTS, both))
    delta = finish(compilation.follow_steps(CatalogState(HOSTS, {"b": both["b"]}), 2))
    assert delta is not None
    assert {"0 b"} == set(delta.addresses.values())
    assert ("a",) == delta.removed


def test_a_machine_that_changes_takes_its_services_along(compiled: list[str]) -> None:
    """Those that run there, and nobody else's."""
    first = state()
    compilation = made(first)
    moved = Host("host2", ("10.77.0.9",), 15008)
    then = CatalogState((HOST1, moved, HOST3), first.instances)
    delta = finish(compilation.follow_steps(then, 2))
    assert {"web"} == set(compiled)
    assert diff(whole(first, 1), whole(then, 2)) == delta


def test_what_holds_for_all_services_is_many_steps() -> None:
    """A loop has its turn in between."""
    compilation = made(large(1000))
    then = large(1000)
    steps = compilation.follow_steps(CatalogState(then.hosts, then.instances, then.intentions, {}, "http"), 2)
    assert 3 < sum(1 for _ in steps)
