"""What of an answer counts, put together; each judgement has tests of its own (hold_back, proof, hidden)."""

import pytest

from nodeagent.config import CatalogTable
from nodeagent.control.admission import FILTERED, Admission
from nodeagent.control.consul import Catalog
from nodeagent.control.environment import real_environment
from nodeagent.control.seen import Seen
from tests.support.loop import run
from tests.support.mesh import HOST2, instance

ROWS = tuple(instance(HOST2, port) for port in (1, 2, 3, 4))
NONE: frozenset[str] = frozenset()


@pytest.fixture
def admission() -> Admission:
    env = real_environment()
    return Admission(Catalog(CatalogTable("http://127.0.0.1:9", token_file=""), env.now), Seen(), "host1", env, lambda: None)


def test_what_a_filtered_answer_lost_is_not_proven_and_kept(admission: Admission) -> None:
    admission.put("db", admission.judge("db", ROWS, "", NONE))
    doubts = run(lambda: admission.doubts({"db": (), "web": ROWS}, is_filtered=True))
    assert doubts == {"db": FILTERED}
    admission.put("db", admission.judge("db", (), doubts["db"], NONE))
    assert admission._seen.instances["db"] == admission._seen.held["db"] == ROWS
    assert FILTERED in admission.held["db"]
    admission.put("db", admission.judge("db", ROWS, "", NONE))
    assert (admission.held, admission._seen.held["db"]) == ({}, ())


def test_what_went_while_nobody_was_here_is_held_for_nobody_unless_it_is_doubted(admission: Admission) -> None:
    admission._seen.saved = {"db": ROWS}
    assert admission.judge("db", (), "", NONE).rows == ()
    assert admission.judge("db", (), "who knows", NONE).rows == ROWS
