"""Blocking queries kept going, against a catalog that misbehaves."""

import asyncio
import contextlib
import itertools

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.config import CatalogTable
from nodeagent.control.consul import Answer, Catalog
from nodeagent.control.watch import Held, Rhythm, Watch
from nodeagent.errors import CatalogError
from nodeagent.observe.metrics import Metrics
from tests.support.loop import run, until
from tests.support.scripted_catalog import NODES, SERVICES, ScriptedCatalog

QUICK = Rhythm(backoff_max_s=0.05)


class Scene:
    """A watch of NODES and what it applied."""

    def __init__(self, peer: ScriptedCatalog, *failures: Exception, rhythm: Rhythm = QUICK) -> None:
        self.peer = peer
        self.applied: list[bytes] = []
        self.failures = list(failures)
        clock = itertools.count(1.0)
        self.catalog = Catalog(CatalogTable(peer.address, token_file=""), lambda: next(clock))
        self.watch = Watch(self.catalog, NODES, self._apply, metrics=Metrics("1"), draw=lambda: 0.5, rhythm=rhythm)

    async def _apply(self, answer: Answer) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.applied.append(answer.body)

    @contextlib.asynccontextmanager
    async def running(self):
        async with self.catalog:
            task = asyncio.create_task(self.watch.run())
            try:
                yield self
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def indexes(self) -> list[str]:
        return [index for _, path, index in self.peer.asked if path == NODES]


def played(script, *failures: Exception, rhythm: Rhythm = QUICK):
    """Runs `script(scene)` with a watch running."""

    async def scene() -> None:
        async with ScriptedCatalog() as peer, Scene(peer, *failures, rhythm=rhythm).running() as playing:
            await script(playing)

    run(scene)


def test_changes_are_applied_as_they_come() -> None:
    async def script(scene: Scene) -> None:
        await until(lambda: scene.applied == [b"[]"], "the first answer")
        scene.peer.set(NODES, [1])
        await until(lambda: scene.applied == [b"[]", b"[1]"], "the change")
        assert scene.indexes()[:2] == ["", "10"]

    played(script)


def test_a_new_index_with_the_same_content_is_not_a_change() -> None:
    async def script(scene: Scene) -> None:
        await until(lambda: scene.applied, "the first answer")
        scene.peer.set(NODES, [])
        await until(lambda: "11" in scene.indexes(), "the next query")
        assert scene.applied == [b"[]"]

    played(script)


def test_one_that_rests_while_another_s_index_goes_back_asks_in_full_after_that() -> None:
    """With the index of before it would wait for minutes for news that it does not get; also where the first question is refused."""

    async def script(scene: Scene) -> None:
        await until(lambda: scene.applied, "the first answer")
        scene.peer.scripts[NODES] = lambda _: scene.peer.scripts.clear() or web.Response(status=429)
        scene.catalog.note_rewind(SERVICES, 100, "3")
        scene.peer.set(NODES, [1])
        await until(lambda: len(scene.indexes()) == 4, "three more")
        assert scene.indexes() == ["", "", "", "11"]

    played(script, rhythm=Rhythm(rest_s=0.2))


def test_an_index_that_goes_back_starts_again_with_a_full_read() -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer, Scene(peer).running() as playing:
            answers = iter([("50", [1]), ("7", [2]), ("7", [2])])

            def answer(_request: web.Request) -> web.Response | None:
                index, value = next(answers, ("", None))
                return web.json_response(value, headers={"X-Consul-Index": index}) if index else None

            peer.scripts[NODES] = answer
            peer.values[NODES] = (7, [2])
            await until(lambda: len(playing.indexes()) >= 4, "four queries")
            assert playing.indexes()[:4] == ["", "50", "", "7"]
            assert playing.applied == [b"[1]", b"[2]"]

    run(scene)


@pytest.mark.parametrize("header", [None, "0", "garbage", str(2**64)])
def test_an_index_that_is_none_does_not_spin(header: str | None) -> None:
    async def script(scene: Scene) -> None:
        headers = {} if header is None else {"X-Consul-Index": header}
        scene.peer.scripts[NODES] = lambda _: web.json_response([1], headers=headers)
        await until(lambda: len(scene.indexes()) >= limits.CATALOG_BURST, "the burst")
        began = asyncio.get_running_loop().time()
        before = len(scene.indexes())
        await until(lambda: len(scene.indexes()) >= before + 2, "two more")
        assert asyncio.get_running_loop().time() - began > 0.5 / limits.CATALOG_RATE_PER_S

    played(script)


@pytest.mark.parametrize("failure", [CatalogError("garbage"), ValueError("a defect of ours")])
def test_an_answer_that_cannot_be_applied_is_read_again_in_full(failure: Exception) -> None:
    async def script(scene: Scene) -> None:
        await until(lambda: scene.applied == [b"[]"], "the second try")
        assert scene.indexes()[:2] == ["", ""]
        assert scene.watch.error == ""

    played(script, failure)


def test_a_held_answer_is_shown_and_read_again() -> None:
    async def script(scene: Scene) -> None:
        await until(lambda: scene.watch.error == "too little", "the alarm")
        scene.failures.clear()
        await until(lambda: scene.applied, "the end of the hold")

    played(script, *[Held("too little")] * 1000)


def test_a_failure_is_over_with_the_next_answer_which_is_one_at_once() -> None:
    """With an index it would come with the next news, in minutes, and the complaint would stay as long."""

    async def script(scene: Scene) -> None:
        await until(lambda: "10" in scene.indexes(), "the blocking query")
        broken = [web.Response(status=500, text="No cluster leader") for _ in range(2)]
        scene.peer.scripts[NODES] = lambda _: broken.pop() if broken else None
        scene.peer.set(NODES, [])
        await until(lambda: len(scene.indexes()) == 6, "it waits again")
        assert scene.indexes() == ["", "10", "11", "", "", "11"]
        assert (scene.watch.complaint, scene.applied) == ("", [b"[]"])

    played(script)


def test_a_pulse_asks_without_waiting_after_a_failure() -> None:
    """Nothing changed while the catalog was away: it is known to be back all the same, and nothing is applied twice."""

    async def script(scene: Scene) -> None:
        await until(lambda: "10" in scene.indexes(), "the blocking query")
        broken = [web.Response(status=500, text="rpc error") for _ in range(2)]
        scene.peer.scripts[NODES] = lambda _: broken.pop() if broken else None
        scene.peer.set(NODES, [])
        await until(lambda: len(scene.indexes()) == 6, "blocking queries again")
        assert scene.indexes() == ["", "10", "11", "", "", "11"]
        assert scene.applied == [b"[]"]

    played(script, rhythm=Rhythm(backoff_max_s=0.05, is_pulse=True))


def test_polled_paths_are_read_without_an_index() -> None:
    async def script(scene: Scene) -> None:
        await until(lambda: scene.applied, "the first answer")
        scene.peer.set(NODES, [3])
        await until(lambda: scene.applied[-1] == b"[3]", "the change")
        assert set(scene.indexes()) == {""}

    played(script, rhythm=Rhythm(poll_s=0.05))


def test_long_answers_are_waited_for_and_have_a_rest_after_them() -> None:
    """Also where one is held, however often it was before: it is not asked for sooner, nor much later."""

    async def script(scene: Scene) -> None:
        await until(lambda: scene.indexes() == ["", "10"], "the blocking query")
        loop = asyncio.get_running_loop()
        scene.failures = [Held("held"), Held("held"), Held("held")]
        began = loop.time()
        scene.peer.set(NODES, [3])
        await until(lambda: scene.applied == [b"[]", b"[3]"], "the change")
        assert loop.time() - began >= 3 * 0.1  # rests of 0.1 s with this draw
        await until(lambda: scene.indexes() == ["", "10", "", "", "", "11"], "the next blocking query")

    played(script, rhythm=Rhythm(rest_s=0.1, backoff_max_s=3600.0))


def test_a_catalog_that_is_well_again_wakes_all_who_rest() -> None:
    """As after an election: who failed last may rest for long, the pulse does not."""

    async def script(scene: Scene) -> None:
        broken = [True]
        scene.peer.scripts[NODES] = lambda _: web.Response(status=500, text="No cluster leader") if broken else None
        await until(lambda: scene.watch.error, "the failure")
        resting = asyncio.create_task(scene.catalog.rest(3600))
        await asyncio.sleep(0)
        broken.clear()
        await until(resting.done, "the end of the rest")

    played(script)


@pytest.mark.parametrize(("every_s", "lines"), [(3600.0, 1), (0.0, 3)])
def test_the_same_complaint_is_logged_once_in_a_while(every_s: float, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog that is away for a night fills no disk."""
    monkeypatch.setattr(limits, "CATALOG_COMPLAIN_S", every_s)
    failures = [CatalogError("garbage")] * 3

    async def script(scene: Scene) -> None:
        await until(lambda: scene.applied, "the answer that is taken")

    with capture_logs() as log:
        played(script, *failures)
    assert len([line for line in log if line["event"] == "catalog_answer_not_taken"]) == lines


def test_any_answer_ends_the_complaint_that_the_catalog_is_out_of_reach() -> None:
    """The question itself may wait for minutes until there is news."""

    async def script(scene: Scene) -> None:
        await until(lambda: "10" in scene.indexes(), "the blocking query")
        port = scene.peer.port
        await scene.peer._site.stop()
        await scene.catalog._forget_session()
        await until(lambda: "cannot be reached" in scene.watch.complaint, "the complaint")
        await scene.peer.open(port)
        await scene.catalog.read("/v1/catalog/services")
        assert scene.watch.complaint == ""
        await until(lambda: scene.indexes()[-1] == "10", "it waits again")
        assert scene.applied == [b"[]"]

    played(script)


def test_a_refusal_is_complained_of_whatever_else_is_answered() -> None:
    """And not for longer: the answer that ends it is one without a wait, also where there is no news."""

    async def script(scene: Scene) -> None:
        await until(lambda: scene.indexes()[-1:] == ["10"], "it knows what there is")
        scene.peer.scripts[NODES] = lambda _: web.Response(status=403, text="not for you")
        scene.peer.set(NODES, ["news, so that it asks again"])
        await until(lambda: scene.watch.is_forbidden, "the refusal")
        await scene.catalog.read("/v1/catalog/services")
        assert "not for you" in scene.watch.complaint
        scene.peer.scripts.clear()
        await until(lambda: not scene.watch.is_forbidden, "an answer")
        assert (scene.watch.complaint, len(scene.applied)) == ("", 2)

    played(script)


def test_whoever_waits_for_an_index_that_will_not_come_asks_anew() -> None:
    """One watch hears that the catalog was replaced; the others wait for an index that is minutes, or for ever, away."""

    async def script(scene: Scene) -> None:
        scene.peer.index = 90
        scene.peer.set(NODES, [1])
        await until(lambda: "91" in scene.indexes(), "the blocking query")
        scene.peer.index = 3
        scene.peer.values[NODES] = (3, [2])
        scene.catalog.note_rewind("/v1/catalog/services", 91, "3")
        await until(lambda: scene.applied[-1] == b"[2]", "what is there now")
        assert (scene.watch.error, scene.catalog.failing_since) == ("", None)
        await until(lambda: scene.indexes()[-1] == "3", "the next query")

    played(script)


def test_two_watches_may_notice_it_at_once() -> None:
    async def script(scene: Scene) -> None:
        await until(lambda: "10" in scene.indexes(), "the blocking query")
        await until(lambda: scene.catalog._waiting, "its wait")
        scene.catalog.note_rewind("/v1/catalog/services", 91, "3")
        await asyncio.sleep(0)  # the first has ended the wait, and who waited has not run yet
        scene.catalog.note_rewind(NODES, 91, "3")
        await until(lambda: scene.indexes()[-1] == "10" and len(scene.indexes()) > 3, "the next queries")

    played(script)


def test_an_index_that_goes_back_by_itself_is_no_restored_snapshot() -> None:
    """Below a prefix of the KV store Consul's does, once it has forgotten what was deleted: nobody else is asked to read all anew."""

    async def script(scene: Scene) -> None:
        await until(lambda: "10" in scene.indexes(), "the blocking query")
        scene.peer.scripts[NODES] = lambda _: web.json_response([], headers={"X-Consul-Index": "3"})
        scene.peer.set(NODES, ["news, so that it asks again"])
        await until(lambda: scene.indexes()[-1] == "3", "the next query")
        assert scene.catalog.rewound == ""

    played(script, rhythm=Rhythm(backoff_max_s=0.05, may_go_back=True))


def test_an_index_that_went_back_is_noticed_though_the_answer_is_not_taken() -> None:
    """A restored snapshot has fewer instances: it is held back, and the other watches must not wait for its old index."""

    async def script(scene: Scene) -> None:
        def older(request: web.Request) -> web.Response | None:
            if not request.query.get("index"):
                return None
            scene.failures.append(Held("suspicious"))
            del scene.peer.scripts[NODES]
            return web.json_response([2], headers={"X-Consul-Index": "3"})

        await until(lambda: "10" in scene.indexes(), "the blocking query")
        scene.peer.scripts[NODES] = older
        scene.peer.set(NODES, ["news, so that it asks again"])
        await until(lambda: len(scene.applied) == 3, "the answer after that")
        assert "went back from 11 to 3" in scene.catalog.rewound

    played(script)


def test_a_catalog_that_was_away_may_have_been_replaced() -> None:
    """Its indexes may be lower than before: nothing is to wait for those."""

    async def script(scene: Scene) -> None:
        await until(lambda: "10" in scene.indexes(), "the blocking query")
        port = scene.peer.port
        scene.peer.scripts[NODES] = lambda request: request.transport.abort() or web.Response()
        await scene.peer._site.stop()
        scene.peer.set(NODES, [])
        await until(lambda: scene.catalog.failing_since, "the outage")
        scene.peer.scripts.clear()
        scene.peer.index = 3
        scene.peer.values[NODES] = (3, [7])
        await scene.peer.open(port)
        await until(lambda: scene.applied[-1] == b"[7]", "what is there now")

    played(script)


def test_who_is_hurried_does_not_rest_and_asks_in_full_once() -> None:
    """Whether it rests after an answer, after one that is held, or is about to."""

    async def script(scene: Scene) -> None:
        for count, failures in enumerate(([], [Held("x")], []), start=1):
            await until(lambda n=count: len(scene.indexes()) == n and not scene.watch.is_waiting, "an answer")
            scene.failures += failures
            scene.watch.hurry()
        await until(lambda: len(scene.indexes()) == 4, "the last")
        assert scene.indexes() == [""] * 4
        scene.watch.rhythm = QUICK
        scene.watch.hurry()
        await until(lambda: scene.indexes()[-1] == "10", "a question that waits")
        assert scene.watch.is_waiting

    played(script, rhythm=Rhythm(rest_s=3600.0))


def test_who_rests_after_an_answer_asks_anew_when_a_catalog_is_back() -> None:
    """In full: what changed meanwhile is not to wait for the end of that rest."""

    async def script(scene: Scene) -> None:
        await until(lambda: scene.applied, "an answer, before a long rest")
        port = scene.peer.port
        await scene.peer._site.stop()
        await scene.catalog._forget_session()
        with pytest.raises(CatalogError):
            await scene.catalog.read(NODES)
        await scene.peer.open(port)
        scene.peer.set(NODES, [1])
        await scene.catalog.read(SERVICES)
        await until(lambda: scene.applied == [b"[]", b"[1]"], "the change")

    played(script, rhythm=Rhythm(rest_s=3600.0))


def test_that_a_catalog_cannot_be_reached_is_logged_once_for_all_watches() -> None:
    """There are up to CATALOG_WATCHES."""

    async def script(scene: Scene) -> None:
        watches = [Watch(scene.catalog, path, scene._apply, metrics=Metrics("1"), draw=lambda: 0.5, rhythm=QUICK) for path in (NODES, SERVICES)]
        await scene.peer._site.stop()
        await scene.catalog._forget_session()
        with capture_logs() as logs:
            tasks = [asyncio.create_task(watch.run()) for watch in watches]
            await until(lambda: all(watch.error for watch in watches), "both fail")
            for task in tasks:
                task.cancel()
        assert [line["event"] for line in logs].count("catalog_answer_not_taken") <= 1

    played(script)
