"""Whose a kept channel is, and whether anybody still holds its other end."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent import __version__
from nodeagent.process.handover import open_descriptors
from nodeagent.process.lifeline import Holder, last_of, make_lifeline, name_of, take_lifelines, try_holder
from nodeagent.process.orphans import Kin, born_tick

UID = 64902
HOLDER = Holder(7, 2, 4321, 998877, 3, "1.0.dev1+g-x", 1_700_000_000.125)


def test_a_name_says_whose_it_is() -> None:
    """In what the service manager takes for a name; the next version understands it, or takes nobody over."""
    for holder in (HOLDER, HOLDER._replace(version=__version__), HOLDER._replace(version="")):
        assert try_holder(name_of(holder)) == holder
        assert len(name_of(holder)) < 256
        assert ":" not in name_of(holder)


@pytest.mark.parametrize(
    "name",
    ["", "keys", "listeners-0", "worker-", "worker-1-2-3", name_of(HOLDER) + "0", "x" + name_of(HOLDER), name_of(HOLDER._replace(pid=-1)),
     name_of(HOLDER).replace("4321", "٤"), name_of(HOLDER).replace("4321", "9" * 5000), name_of(HOLDER._replace(version="a:b"))],
)  # fmt: skip
def test_what_is_no_such_name_is_nobodys(name: str) -> None:
    """Nor half of one."""
    assert try_holder(name) is None


def test_generations_and_serials_go_on_after_the_last_that_are_known() -> None:
    """Else two workers would have one name."""
    names = [name_of(HOLDER), name_of(HOLDER._replace(serial=9, generation=1)), "keys"]
    assert last_of(names) == (3, 9)
    assert last_of(["keys"]) == (0, 0)


class Scene:
    """A worker's process, and what the service manager has kept. Owned by one test."""

    def __init__(self, cgroup: Path) -> None:
        self.kin = Kin(cgroup, 64901, UID)
        self.process = subprocess.Popen(["sleep", "1000"], user=UID)
        (cgroup / "cgroup.procs").write_text(f"{os.getpid()}\n{self.process.pid}")
        self.holder = HOLDER._replace(pid=self.process.pid, born_tick=born_tick(self.process.pid))
        self.stored: list[tuple[str, int]] = []

    def make(self, holder: Holder) -> socket.socket:
        """The worker's end."""
        return make_lifeline(name_of(holder), lambda name, fds: self.stored.extend((name, os.dup(fd)) for fd in fds))

    def taken(self) -> list[int]:
        """Serials of those that are taken over; nothing of it stays open."""
        found = list(take_lifelines(self.stored, self.kin, 5.0))
        for each in found:
            assert os.get_inheritable(each.channel) is False
            os.close(each.pidfd)
            os.close(each.channel)
        return [each.serial for each in found]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Every descriptor is closed in the end."""
    before = set(open_descriptors())
    made = Scene(tmp_path)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
    assert set(open_descriptors()) == before


def test_a_worker_that_lives_is_taken_over_as_it_was(scene: Scene) -> None:
    """It drains, and what it has said meanwhile is heard."""
    with scene.make(scene.holder) as theirs:
        theirs.send(b"said")
        (worker,) = take_lifelines(scene.stored, scene.kin, 5.0)
        with socket.socket(fileno=worker.channel) as ours, os.fdopen(worker.pidfd):
            assert ours.recv(100) == b"said"
    assert (worker.serial, worker.number, worker.pid, worker.generation) == (7, 2, scene.process.pid, 3)
    assert (worker.state, worker.version, worker.started_at, worker.drain_until) == ("draining", "1.0.dev1+g-x", 1_700_000_000.125, 5.0)


def test_a_number_that_is_another_processs_by_now_is_not_believed(scene: Scene) -> None:
    """Born at another time, of another user, or gone: nobody is taken over, nor killed later in its place."""
    wrong = [
        scene.holder._replace(born_tick=scene.holder.born_tick - 1),
        scene.holder._replace(pid=os.getpid(), born_tick=born_tick(os.getpid())),
        scene.holder._replace(pid=999_999_999, born_tick=0),
    ]
    ends = [scene.make(holder) for holder in wrong]
    assert scene.taken() == []
    assert [end.recv(1) for end in ends] == [b""] * 3
    for end in ends:
        end.close()


def test_who_is_in_another_cgroup_is_none_of_ours(scene: Scene) -> None:
    """Though it is of the workers' user."""
    (scene.kin.cgroup / "cgroup.procs").write_text("")
    with scene.make(scene.holder):
        assert scene.taken() == []


def test_a_line_that_nobody_holds_is_dropped_and_a_worker_has_one(scene: Scene) -> None:
    """As when a supervisor died between two of them; other descriptors under such a name are closed."""
    scene.make(scene.holder._replace(serial=1)).close()
    left, right = socket.socketpair()
    scene.stored += [(name_of(scene.holder._replace(serial=2)), left.detach()), (name_of(HOLDER), os.open(os.devnull, os.O_RDONLY))]
    scene.stored.append(("worker-of-another-version", os.open(os.devnull, os.O_RDONLY)))
    with right, scene.make(scene.holder), scene.make(scene.holder._replace(serial=9)):
        assert scene.taken() == [7]
