"""What of an answer counts, put together; each judgement has tests of its own (hold_back, proof, hidden)."""

import pytest
from msgspec.structs import replace

from nodeagent import limits
from nodeagent.catalog.state import MARKER_SERVICE, CatalogState
from nodeagent.config import CatalogTable
from nodeagent.control.admission import AWAY, FILTERED, REWOUND, Admission
from nodeagent.control.announce import Announcer
from nodeagent.control.consul import Catalog
from nodeagent.control.environment import real_environment
from nodeagent.control.lately import there
from nodeagent.control.seen import Seen
from nodeagent.control.watch import Rhythm
from tests.support.loop import run, until
from tests.support.mesh import HOST1, HOST2, HOST3, config, instance
from tests.support.scripted_catalog import NODES, SERVICES, ScriptedCatalog
from tests.support.scripted_catalog import instance as row
from tests.unit.nodeagent.control.test_follow import HOST1 as NODE1
from tests.unit.nodeagent.control.test_follow import HOST2 as NODE2
from tests.unit.nodeagent.control.test_follow import Scene, db, played

HEALTH = "/v1/health/service/web"
ROWS = tuple(instance(HOST2, port) for port in (1, 2, 3, 4))
NONE: frozenset[str] = frozenset()


@pytest.fixture
def admission() -> Admission:
    env = real_environment()
    catalog = Catalog(CatalogTable("http://127.0.0.1:9", token_file=""), env.now)
    return Admission(catalog, Seen(), Announcer(config(), catalog, env.elapsed), "host1", env, lambda: None)


def test_who_registers_his_instance_anew_as_another_service_is_not_the_first_at_a_port(admission: Admission) -> None:
    """Also where it was heard by a process before this one; and what it has then is kept."""
    parked, late = (replace(instance(HOST2, port, id_="x", since=7), said_at=said_at) for port, said_at in ((9999, 7), (80, 20)))
    admission.remember({"parked": (parked,)})
    for _ in range(2):
        admission.put("late", admission.judge("late", (late,), "", NONE))
        assert [row.registered_at for row in admission._seen.instances["late"]] == [20]


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
    assert there(admission.judge("db", (), "", NONE).rows) == ()
    assert admission.judge("db", (), "who knows", NONE).rows == ROWS


def test_what_was_let_go_while_an_answer_was_looked_at_does_not_come_back(admission: Admission) -> None:
    """Nobody would take it out of force any more."""
    elapsed = [0.0]
    admission._env, admission._seen.hosts = admission._env._replace(elapsed=lambda: elapsed[0]), (HOST1,)
    for rows in (ROWS[:1], ()):
        admission.put("db", admission.judge("db", rows, "", NONE))
    assert admission.is_waiting
    admitted = admission.judge("db", (), "", NONE)
    elapsed[0] = limits.HOLD_BACK_S
    assert admission.let_go()
    admission.put("db", admitted)
    assert (admission._seen.instances["db"], admission.is_waiting) == ((), False)


def test_what_was_saved_of_a_host_that_is_hidden_stays(admission: Admission) -> None:
    """Else a start would take it out of the mesh, and callers reach it in clear."""
    admission._seen.saved = {"db": (*ROWS, instance(HOST3, 5))}
    admitted = admission.judge("db", (), "", frozenset({"host3"}))
    assert (there(admitted.rows), admitted.lost) == ((instance(HOST3, 5),), (instance(HOST3, 5),))
    assert 'give it node "host3"' in admitted.why


def test_while_the_catalog_may_be_an_older_one_what_is_new_counts_and_what_vanished_is_held(admission: Admission) -> None:
    """Also of a small service, and its address goes to whoever has taken it."""
    old, new = ROWS[:1], (instance(HOST2, 1, id_="new"),)
    admission.put("db", admission.judge("db", old, "", NONE))
    admission._catalog.indexes.remember({"/v1/catalog/services": 7})
    admission.put("db", admission.judge("db", new, "", NONE))
    assert (admission._seen.instances["db"], admission._seen.held["db"]) == (new + old, old)
    assert f"db: 1 of 1 instances vanished at once; kept for {limits.HOLD_BACK_S:.0f} s more: {AWAY}" == admission.held["db"]
    assert admission._seen.state().instances["db"] == new
    again = admission.judge("db", new, "", NONE)
    assert (again.rows, AWAY in again.why) == (new + old, True)
    admission._catalog.note_index("/v1/catalog/services", "3")
    assert (admission._is_suspect("db", new), REWOUND in admission.judge("db", new, "", NONE).why) == (True, True)


def test_what_went_while_nobody_was_here_is_held_until_the_catalog_is_known_and_no_longer(admission: Admission) -> None:
    admission._seen.saved = {"db": ROWS}
    admission._catalog.indexes.remember({"/v1/catalog/services": 7})
    admission.put("db", admission.judge("db", (), "", NONE))
    assert admission._seen.held["db"] == ROWS
    admission._catalog.note_index("/v1/catalog/services", "7")
    assert there(admission.judge("db", (), "", NONE).rows) == ()


def test_agents_that_are_marked_in_their_hosts_rows_are_missed_in_no_service(admission: Admission) -> None:
    """With the embedded catalog there is none: each start before an older one held what was never there."""
    agents = tuple(instance(host, 15008) for host in (HOST2, HOST3))
    admission._seen.saved = {MARKER_SERVICE: agents}
    admission._seen.hosts = (replace(HOST2, tunnel_port=15008), replace(HOST3, tunnel_port=None))
    assert admission.judge(MARKER_SERVICE, (), "who knows", NONE).rows == agents[1:]
    assert admission.judge("db", (), "who knows", NONE).rows == ()


def test_what_takes_the_place_of_a_service_here_is_in_force_while_the_catalog_may_be_an_older_one() -> None:
    """Else callers of this host would reach the new port in clear."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("web", row(NODE1, "web", 80, "web-1"))
        await until(lambda: scene.services() == {"web": 1}, "the service")
        scene.catalog.indexes.remember({"/v1/never/answered": 7})
        peer.set(HEALTH, [row(NODE1, "web", 81, "web-2")])
        await until(lambda: scene.services() == {"web": 2}, "both")
        assert any(AWAY in text for text in scene.follower.alarms())
        scene.catalog.indexes.keep(("/v1/never/",), ())
        await until(lambda: scene.services() == {"web": 1}, "the new one alone")
        assert scene.follower.alarms() == ()

    played(script)


def test_of_a_service_of_which_something_is_held_what_is_new_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is judged again by and by, and asked for all the time: the port of a new instance is not an ordinary one for so long."""
    monkeypatch.setattr(limits, "CATALOG_BACKOFF_MIN_S", 600.0)  # the longest there is, from the first time on

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("web", row(NODE2, "web", 80, "web-1"))
        await until(lambda: scene.services() == {"web": 1}, "the service")
        scene.follower._watches[HEALTH].rhythm = Rhythm(backoff_max_s=600.0)
        scene.catalog._rewind("the catalog's data went back")
        peer.set(HEALTH, [])
        await until(lambda: any(REWOUND in text for text in scene.follower.alarms()), "the hold")
        await until(lambda: ("GET", HEALTH, str(peer.values[HEALTH][0])) in peer.asked, "a question for news")
        peer.set(HEALTH, [row(NODE2, "web", 81, "web-2")])
        await until(lambda: scene.services() == {"web": 2}, "the new one beside what is held")
        assert any(REWOUND in text for text in scene.follower.alarms())

    played(script)


def marked(scene: Scene) -> dict[str, list[bool]]:
    """Of each service, which instances are gone."""
    state = scene.follower.state()
    assert state is not None
    return {name: [each.instance.gone for each in rows] for name, rows in state.instances.items() if rows}


async def lose_web(scene: Scene, peer: ScriptedCatalog) -> None:
    peer.set(HEALTH, [])
    peer.set(SERVICES, {})
    await until(lambda: marked(scene) == {"web": [True]}, "it is gone, and stands for its address")


def test_a_single_instance_that_vanished_stands_for_its_address_for_its_time() -> None:
    """In silence where it was deregistered, as happens daily."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("web", row(NODE2, "web", 80))
        await until(lambda: scene.services() == {"web": 1}, "the service")
        await lose_web(scene, peer)
        assert (scene.follower.alarms(), scene.follower.admission.is_waiting) == ((), True)
        scene.elapsed += limits.HOLD_BACK_S
        assert marked(scene) == {}
        assert not scene.follower.admission.is_waiting

    played(script)


def test_one_that_went_with_its_host_is_an_alarm_also_where_half_of_a_service_is_left() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("web", row(NODE1, "web", 80), row(NODE2, "web", 80))
        await until(lambda: scene.services() == {"web": 2}, "the service")
        peer.set(NODES, [NODE1])
        peer.set(HEALTH, [row(NODE1, "web", 80)])
        await until(lambda: any("web: its instances on host2 vanished with the host" in text for text in scene.follower.alarms()), "the alarm")
        assert marked(scene) == {"web": [False, True]}
        peer.set(NODES, [NODE1, NODE2])
        peer.set(HEALTH, [row(NODE1, "web", 80), row(NODE2, "web", 80)])
        await until(lambda: marked(scene) == {"web": [False, False]} and not scene.follower.alarms(), "it is back")

    played(script)


def test_what_went_while_nobody_was_here_stands_for_its_address_too() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        scene.follower.remember(CatalogState(instances={"web": (instance(HOST2, 80),)}))
        peer.register("db", *db(1))
        await until(lambda: scene.services() == {"db": 1} and marked(scene) == {"db": [False], "web": [True]}, "both")
        assert scene.follower.alarms() == ()

    played(script)


def test_the_time_does_not_run_out_while_the_catalog_is_out_of_reach() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("web", row(NODE2, "web", 80))
        await until(lambda: scene.services() == {"web": 1}, "the service")
        await lose_web(scene, peer)
        scene.catalog.is_away = True
        scene.elapsed += 2 * limits.HOLD_BACK_S
        assert marked(scene) == {"web": [True]}
        scene.catalog.is_away = False
        scene.elapsed += limits.HOLD_BACK_S
        assert marked(scene) == {}

    played(script)


def test_the_time_runs_while_another_question_hangs() -> None:
    """A leaf, say, each time that it is asked for: nothing would ever end."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("web", row(NODE2, "web", 80))
        await until(lambda: scene.services() == {"web": 1}, "the service")
        await lose_web(scene, peer)
        await scene.catalog._fail(TimeoutError(), "/v1/agent/connect/ca/leaf/web")
        scene.elapsed += limits.HOLD_BACK_S
        assert (scene.catalog.failing_since, marked(scene)) == (scene.now, {})

    played(script)
