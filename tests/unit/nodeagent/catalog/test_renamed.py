"""Nobody is first at a port by an id that was another service's."""

from msgspec.structs import replace

from nodeagent import limits
from nodeagent.catalog.renamed import Renamed
from nodeagent.catalog.state import InstanceRow
from tests.support.mesh import HOST2, instance


def told(port: int, created: int, changed: int, id_: str = "x") -> InstanceRow:
    return replace(instance(HOST2, port, id_=id_, since=created), said_at=changed)


def since(rows: tuple[InstanceRow, ...]) -> list[int]:
    return [row.registered_at for row in rows]


OLD, NEW = told(9999, 7, 7), told(80, 7, 20)


def test_an_instance_of_another_name_is_there_since_it_has_it() -> None:
    """In whatever order the two services are heard, and after its old one was heard without it."""
    for is_left in (False, True):
        renamed = Renamed()
        assert renamed.take("parked", (), (OLD,)) == (OLD,)
        if is_left:
            renamed.take("parked", (OLD,), ())
        rows = renamed.take("late", (), (NEW,))
        assert since(rows) == [20]
        renamed.take("parked", (OLD,), ())
        assert since(renamed.take("late", rows, rows)) == [20]
        assert since(renamed.take("parked", (), (told(9999, 7, 30),))) == [30]


def test_what_was_known_of_a_service_is_as_it_was() -> None:
    """The very same rows: what is held is told by that. An answer from before the change takes the name of now from nobody."""
    renamed = Renamed()
    renamed.take("parked", (), (OLD,))
    (row,) = renamed.take("late", (), (NEW,))
    assert renamed.take("late", (row,), (row,))[0] is row
    assert renamed.take("parked", (OLD,), (OLD,))[0] is OLD
    assert since(renamed.take("late", (row,), (told(80, 20, 25),))) == [20]


def test_who_comes_back_to_a_name_was_not_there_meanwhile() -> None:
    """Although it is known there as one that is gone."""
    renamed = Renamed()
    renamed.take("late", (), (NEW,))
    gone = replace(NEW, instance=replace(NEW.instance, gone=True))
    renamed.take("late", (NEW,), (gone,))
    renamed.take("parked", (), (told(9999, 7, 30),))
    assert since(renamed.take("late", (gone,), (told(80, 7, 40),))) == [40]


def test_an_id_that_is_free_again_is_anybody_s() -> None:
    """Its next registration is counted anew; another host's is another."""
    renamed = Renamed()
    renamed.take("parked", (), (OLD,))
    renamed.take("parked", (OLD,), (replace(OLD, instance=replace(OLD.instance, gone=True)),))
    fresh = told(80, 50, 60)
    assert renamed.take("late", (), (fresh,)) == (fresh,)


def test_of_a_catalog_that_does_not_count_all_is_as_it_says() -> None:
    renamed = Renamed()
    renamed.take("parked", (), (told(9999, 0, 0),))
    assert since(renamed.take("late", (), (told(80, 0, 0),))) == [0]


def test_of_those_that_left_the_last_are_remembered(monkeypatch) -> None:
    monkeypatch.setattr(limits, "CATALOG_LEFT", 2)
    renamed = Renamed()
    for id_ in "abc":
        renamed.take("parked", (), (told(9999, 7, 7, id_),))
        renamed.take("parked", (told(9999, 7, 7, id_),), ())
    rows = renamed.take("late", (), tuple(told(80, 7, 20, id_) for id_ in "abc"))
    assert since(rows) == [7, 20, 20]
