"""The channel to the supervisor."""

from nodeagent.control.supervisor import Supervisor
from nodeagent.observe.metrics import Metrics
from nodeagent.wire.frames import CaptureFrame, NoSnapshot, WantSvid, WorkerFacts
from tests.support.far_ends import FarEnd, supervisor_stats
from tests.support.loop import run, until
from tests.support.mesh import mesh


def test_capture_is_told_once_and_again_when_it_changes() -> None:
    async def scene() -> None:
        with FarEnd() as end:
            supervisor = Supervisor(Metrics("1"), lambda: 5.0, lambda _: None)
            supervisor.publish(mesh())
            await supervisor.connect(end.given_away.dup())
            supervisor.publish(mesh("shop -> web allow", generation=2))
            supervisor.publish(mesh(generation=3, cart=()))
            await until(lambda: len(end.messages) == 2, "two frames")
            first, second = end.messages
            assert isinstance(first, CaptureFrame)
            assert isinstance(second, CaptureFrame)
            assert first.ports == [7000, 9000]
            assert second.ports == [9000]
            assert "10.77.0.2" in first.addresses
            assert "10.77.0.1" not in first.addresses
            supervisor.close()
            await supervisor.ended.wait()

    run(scene)


def test_its_first_word_is_that_it_knows_nothing_where_that_is_so() -> None:
    """The supervisor lets connections wait for that word."""

    async def scene() -> None:
        with FarEnd() as end:
            supervisor = Supervisor(Metrics("1"), lambda: 5.0, lambda _: None)
            await supervisor.connect(end.given_away.dup())
            await until(lambda: end.messages == [NoSnapshot()], "the word")
            supervisor.close()
            await supervisor.ended.wait()

    run(scene)


def test_its_word_is_kept_with_the_time() -> None:
    async def scene() -> None:
        with FarEnd() as end:
            living: list[object] = []
            supervisor = Supervisor(Metrics("1"), lambda: 5.0, living.append)
            await supervisor.connect(end.given_away.dup())
            facts = [WorkerFacts(0, 4001, 0.0, 0, "draining"), WorkerFacts(1, 4002, 0.0, 0, "dead")]
            end.send(supervisor_stats("repaired", workers=facts))
            await until(lambda: supervisor.stats, "the figures")
            assert supervisor.stats is not None
            assert (supervisor.stats.interception, supervisor.heard_at, living) == ("repaired", 5.0, [{4001}])
            supervisor.close()
            await supervisor.ended.wait()

    run(scene)


def test_its_end_is_noticed_and_nonsense_ends_it() -> None:
    async def scene() -> None:
        with FarEnd() as end:
            supervisor = Supervisor(Metrics("1"), lambda: 5.0, lambda _: None)
            await supervisor.connect(end.given_away.dup())
            end.send(WantSvid("web"))
            await supervisor.ended.wait()

    run(scene)


def test_where_the_catalog_is_found_is_told_and_stays_said() -> None:
    async def scene() -> None:
        with FarEnd() as end:
            supervisor = Supervisor(Metrics("1"), lambda: 5.0, lambda _: None)
            supervisor.note_catalog(("10.0.0.8",))
            supervisor.publish(mesh())
            await supervisor.connect(end.given_away.dup())
            supervisor.note_catalog(("10.0.0.9",))
            supervisor.note_catalog(("10.0.0.9",))
            supervisor.publish(mesh(generation=3, cart=()))
            await until(lambda: len(end.messages) == 3, "three frames")
            frames = [frame for frame in end.messages if isinstance(frame, CaptureFrame)]
            assert [(frame.catalog, frame.ports) for frame in frames] == [
                (["10.0.0.8"], [7000, 9000]), (["10.0.0.9"], [7000, 9000]), (["10.0.0.9"], [9000]),
            ]  # fmt: skip
            supervisor.close()
            await supervisor.ended.wait()

    run(scene)
