"""Compile, hand out, save."""

import asyncio
import contextlib

import pytest

from nodeagent import limits
from nodeagent.control.last_good import read_last_good
from nodeagent.control.publish import News, Publisher
from nodeagent.model.snapshot import Snapshot
from nodeagent.observe.metrics import Metrics
from nodeagent.wire.capture_file import NAME, decode_capture
from tests.support.loop import run, until
from tests.support.mesh import HOST2, config, instance, state

DOMAIN = "test.consul"


class Scene:
    """A publisher and what it handed out."""

    def __init__(self, state_dir, *, mode: str = "strict") -> None:
        self.out: list[Snapshot] = []
        self.path = state_dir / "snapshot"
        settings = config(f'[admin]\nstate_dir = "{state_dir}"\n', mode=mode)
        self.publisher = Publisher(settings, Metrics("1"), lambda news: self.out.append(news.snapshot), lambda: 1000.0)

    @contextlib.asynccontextmanager
    async def saving(self):
        task = asyncio.create_task(self.publisher.save())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def test_each_change_is_handed_out_with_the_next_number(tmp_path) -> None:
    scene = Scene(tmp_path)
    assert not scene.publisher.knows_host("host2")
    scene.publisher.publish(state(), DOMAIN)
    assert (scene.publisher.knows_host("host2"), scene.publisher.knows_host("host9")) == (True, False)
    scene.publisher.publish(state("shop -> web allow"), DOMAIN)
    assert [snapshot.generation for snapshot in scene.out] == [1, 2]
    assert scene.out[1].services["web"].intentions != ()
    assert scene.publisher.source == "catalog"


def test_what_is_the_same_is_not_handed_out_again(tmp_path) -> None:
    scene = Scene(tmp_path)
    for _ in range(3):
        scene.publisher.publish(state("shop -> web allow"), DOMAIN)
    assert len(scene.out) == 1


def test_what_is_in_force_is_saved_and_restored(tmp_path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path).saving() as playing:
            playing.publisher.publish(state("shop -> web allow"), DOMAIN)
            saved = await until(lambda: playing.path.exists() and read_last_good(playing.path), "the file")
            assert (saved.saved_at, saved.trust_domain, saved.generation) == (1000.0, DOMAIN, 1)
        again = Scene(tmp_path)
        assert again.publisher.restore() is not None
        assert again.publisher.source == "saved"
        assert again.out[0].services["web"].intentions != ()

    run(scene)


def test_the_restored_snapshot_obeys_the_configuration_of_now(tmp_path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path, mode="permissive").saving() as playing:
            playing.publisher.publish(state(), DOMAIN)
            await until(playing.path.exists, "the file")
        again = Scene(tmp_path, mode="strict")
        again.publisher.restore()
        assert again.out[0].mesh.mode == "strict"

    run(scene)


def test_the_catalog_goes_on_counting_where_the_file_stopped(tmp_path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path).saving() as playing:
            playing.publisher.publish(state(), DOMAIN)
            await until(playing.path.exists, "the file")
        again = Scene(tmp_path)
        again.publisher.restore()
        again.publisher.publish(state(), DOMAIN)
        assert (len(again.out), again.publisher.source) == (1, "catalog")
        again.publisher.publish(state("shop -> web allow"), DOMAIN)
        assert again.out[-1].generation == 2

    run(scene)


def test_a_spoiled_file_is_an_alarm_and_nothing_more(tmp_path) -> None:
    scene = Scene(tmp_path)
    scene.path.write_bytes(b"garbage")
    assert scene.publisher.restore() is None
    assert (scene.out, scene.publisher.source) == ([], "none")
    assert "renamed" in scene.publisher.errors["saved"]


def test_a_file_that_cannot_be_read_is_an_alarm_until_one_is_saved(tmp_path) -> None:
    """Then that one will be read."""

    async def scene() -> None:
        playing = Scene(tmp_path)
        playing.path.symlink_to(playing.path)
        assert playing.publisher.restore() is None
        assert "symbolic links" in " ".join(playing.publisher.errors.values())
        async with playing.saving():
            playing.publisher.publish(state(), DOMAIN)
            await until(lambda: not playing.publisher.errors, "no alarm")
        assert read_last_good(playing.path) is not None

    run(scene)


def test_a_disk_that_cannot_be_written_is_an_alarm_until_it_can(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("nodeagent.limits.LAST_GOOD_S", 0.01)

    async def scene() -> None:
        missing = tmp_path / "missing"
        async with Scene(missing).saving() as playing:
            playing.publisher.publish(state(), DOMAIN)
            await until(lambda: "save" in playing.publisher.errors, "the alarm")
            missing.mkdir()
            playing.publisher.publish(state("shop -> web allow"), DOMAIN)
            await until(lambda: not playing.publisher.errors, "no alarm")
            assert playing.out[-1].generation == 2

    run(scene)


def test_what_could_not_be_saved_is_saved_as_soon_as_the_disk_takes_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("nodeagent.limits.LAST_GOOD_S", 0.01)

    async def scene() -> None:
        missing = tmp_path / "missing"
        async with Scene(missing).saving() as playing:
            playing.publisher.publish(state(), DOMAIN)
            await until(lambda: "save" in playing.publisher.errors, "the alarm")
            missing.mkdir()
            await until(lambda: not playing.publisher.errors, "no alarm, without another change")
            assert playing.path.exists()

    run(scene)


def test_what_a_defect_kept_out_of_force_is_tried_again_with_a_number_of_its_own(tmp_path) -> None:
    scene = Scene(tmp_path)
    broken = ["a worker's channel", "again"]

    def hand_out(news: News) -> None:
        scene.out.append(news.snapshot)
        if broken:
            raise RuntimeError(broken.pop())

    scene.publisher = Publisher(config(f'[admin]\nstate_dir = "{tmp_path}"\n'), Metrics("1"), hand_out, lambda: 1000.0)
    for _ in range(2):
        with pytest.raises(RuntimeError) as caught:
            scene.publisher.publish(state(), DOMAIN)
        scene.publisher.blame(caught.value)
        assert scene.publisher.is_behind
        assert "RuntimeError" in scene.publisher.errors["compile"]
    scene.publisher.publish(state(), DOMAIN)
    assert [snapshot.generation for snapshot in scene.out] == [1, 2, 3]
    assert (scene.publisher.is_behind, scene.publisher.errors) == (False, {})


@pytest.mark.parametrize("count", [1, 100])
def test_only_the_newest_of_many_changes_needs_to_be_saved(tmp_path, count: int) -> None:
    async def scene() -> None:
        async with Scene(tmp_path).saving() as playing:
            for number in range(count):
                playing.publisher.publish(state(f"s{number} -> web allow"), DOMAIN)
            await until(lambda: playing.path.exists() and read_last_good(playing.path), "the file")
            saved = read_last_good(playing.path)
            assert saved is not None
            assert saved.generation == count

    run(scene)


def test_the_last_change_is_saved_before_control_ends(tmp_path) -> None:
    """Its successor would take the workers back to what held before; nothing is written twice."""

    async def scene() -> None:
        playing = Scene(tmp_path)
        await playing.publisher.save_rest()
        assert not playing.path.exists()
        async with playing.saving():
            playing.publisher.publish(state("shop -> web allow"), DOMAIN)
            await until(lambda: playing.path.exists() and playing.publisher._saved, "the first is saved")
            playing.publisher.publish(state(), DOMAIN)
        await playing.publisher.save_rest()
        assert read_last_good(playing.path).generation == 2
        playing.path.unlink()
        await playing.publisher.save_rest()
        assert not playing.path.exists()

    run(scene)


def test_where_the_catalog_is_found_is_saved_with_what_is_captured(tmp_path) -> None:
    """Once for each place, and by itself: the catalog may say nothing new for days."""

    async def scene() -> None:
        playing = Scene(tmp_path)
        playing.publisher.note_catalog(("10.0.0.8",))
        await playing.publisher.save_rest()
        assert not playing.path.exists()
        playing.publisher.publish(state(), DOMAIN)
        for addresses in (("10.0.0.8",), ("10.0.0.9",)):
            playing.publisher.note_catalog(addresses)
            await playing.publisher.save_rest()
            assert decode_capture((tmp_path / NAME).read_bytes()).catalog == [*addresses]
        (tmp_path / NAME).unlink()
        playing.publisher.note_catalog(("10.0.0.9",))
        await playing.publisher.save_rest()
        assert not (tmp_path / NAME).exists()

    run(scene)


def test_a_configuration_that_comes_between_two_steps_counts(tmp_path) -> None:
    """What was compiled under the one before is compiled again."""
    scene = Scene(tmp_path)
    scene.publisher.publish(state(), DOMAIN)
    large = state(**{f"s{n}": (instance(HOST2, 1000 + n),) for n in range(2 * limits.DECODE_ROWS)})
    steps = scene.publisher.publish_steps(large, DOMAIN)
    next(steps)
    scene.publisher.reconfigure(config(f'[admin]\nstate_dir = "{tmp_path}"\n', mode="permissive"))
    for _ in steps:
        pass
    assert [("strict", 4), ("permissive", 4)] == [(s.mesh.mode, len(s.services)) for s in scene.out[:2]]
    assert ("permissive", len(large.instances)) == (scene.out[-1].mesh.mode, len(scene.out[-1].services))


def test_a_configuration_that_comes_before_the_first_snapshot_counts(tmp_path) -> None:
    """Nothing is in force that it could be put into."""
    scene = Scene(tmp_path)
    steps = scene.publisher.publish_steps(state(), DOMAIN)
    next(steps)
    scene.publisher.reconfigure(config(f'[admin]\nstate_dir = "{tmp_path}"\n', mode="permissive"))
    for _ in steps:
        pass
    assert ["permissive"] == [snapshot.mesh.mode for snapshot in scene.out]


def test_another_configuration_always_concerns_this_host(tmp_path) -> None:
    """A service's mode decides whether its endpoints may bypass a dead agent, wherever they are."""
    news: list[News] = []
    text = f'[admin]\nstate_dir = "{tmp_path}"\n[intercept]\nfail = "open"\n'
    publisher = Publisher(config(text, mode="permissive"), Metrics("1"), news.append, lambda: 1000.0)
    publisher.publish(state(), DOMAIN)
    publisher.reconfigure(config(text + '[service.web]\nmode = "strict"\n', mode="permissive"))
    assert [True, True] == [each.concerns_host for each in news]
    assert ["web"] == [service.name for service in news[1].delta.services]


def test_who_is_told_hears_what_differs_and_whether_it_concerns_this_host(tmp_path) -> None:
    """Workers need the difference; the kernel's sets and certificates mostly nothing."""
    news: list[News] = []
    publisher = Publisher(config(f'[admin]\nstate_dir = "{tmp_path}"\n'), Metrics("1"), news.append, lambda: 1000.0)
    for said in (state(), state("shop -> web allow"), state("shop -> web allow", cart=())):
        publisher.publish(said, DOMAIN)
    assert [(None, True), (("web",), False), (("cart",), True)] == [
        (n.delta and tuple(service.name for service in n.delta.services), n.concerns_host) for n in news
    ]


def test_what_is_captured_is_saved_when_it_may_differ(tmp_path) -> None:
    """It takes a while to find out, and most changes are none of it."""

    async def scene() -> None:
        playing = Scene(tmp_path)
        for said, is_written in ((state(), True), (state("shop -> web allow"), False), (state(cart=()), True)):
            (tmp_path / NAME).unlink(missing_ok=True)
            playing.publisher.publish(said, DOMAIN)
            await playing.publisher.save_rest()
            assert is_written == (tmp_path / NAME).exists()

    run(scene)
