"""When a place that nobody serves leaves the listening group, with a clock of the test's."""

import errno
import math
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.process.listeners import ListenerSet, ListenerSocket
from nodeagent.process.slot import Slot
from nodeagent.process.vacancy import Vacancies
from nodeagent.process.worker_process import State

NOW = 1000.0


class Scene:
    """Two slots, the first of which is served. Owned by one test."""

    def __init__(self) -> None:
        self.now, self.wake_at, self.forgotten, self.has_sentry_held = NOW, math.inf, list[str](), False
        loop = SimpleNamespace(time=lambda: self.now, call_at=self._call_at)
        self.vacancies = Vacancies(cast("Any", loop), lambda: None, self.forgotten.append, lambda: self.has_sentry_held)
        self.slots = [Slot([ListenerSet("listeners-0", ())], worker=worker(State.SERVING)), Slot([ListenerSet("listeners-1", ())])]

    def _call_at(self, at: float, _call: object) -> Any:
        self.wake_at = at
        return SimpleNamespace(cancel=self._cancel)

    def _cancel(self) -> None:
        self.wake_at = math.inf

    def look(self, later_s: float = 0.0) -> bool:
        """Whether the second slot has its sockets still, so many seconds after the last look."""
        self.now += later_s
        self.vacancies.leave(self.slots)
        return bool(self.slots[1].sets)


def worker(state: State, told_at: float = 0.0) -> Any:
    """Somebody in a slot."""
    made = SimpleNamespace(state=state, told_at=told_at, killed=0)

    def kill() -> None:
        made.killed += 1

    made.kill = kill
    return made


def test_a_place_that_nobody_serves_leaves_when_whoever_came_first_has_waited_long_enough() -> None:
    """It is counted from when who served it was heard last; once it has left nobody waits, and it is a matter for `status`."""
    scene = Scene()
    scene.vacancies.note_end(scene.slots[1], NOW - 2)
    assert scene.look()
    assert scene.wake_at == NOW - 2 + limits.LEFT_S
    assert scene.vacancies.number(scene.slots) == 0
    with capture_logs() as log:
        assert not scene.look(limits.LEFT_S - 2)
    assert [(line["event"], line["unserved_s"]) for line in log] == [("place_left", limits.LEFT_S)]
    assert (scene.forgotten, scene.wake_at, scene.vacancies.number(scene.slots)) == (["listeners-1"], math.inf, 1)
    scene.slots[1].worker = worker(State.SERVING)
    scene.look()
    assert scene.vacancies.number(scene.slots) == 0


def test_where_nobody_was_yet_it_is_counted_from_the_first_look() -> None:
    """A start that others wait for, and an end that was not the first."""
    scene = Scene()
    scene.look()
    assert scene.wake_at == NOW + limits.LEFT_S
    scene.now += 1
    scene.vacancies.note_end(scene.slots[1], scene.now)
    scene.look()
    assert scene.wake_at == NOW + limits.LEFT_S


def test_where_nobody_serves_none_leaves_and_whoever_follows_the_first_has_a_moment() -> None:
    """To wait is better than to be reset, and there is no beat; the sentry ends those who wait for long. Others hear policy in the same moment."""
    scene = Scene()
    scene.slots[0].worker = worker(State.OPENING)
    assert scene.look()
    assert scene.look(60)
    assert scene.wake_at == math.inf
    scene.slots[0].worker.state = State.SERVING
    assert scene.look()
    assert scene.wake_at == scene.now + limits.LEFT_GRACE_S
    assert not scene.look(limits.LEFT_GRACE_S)


def test_after_a_hold_the_others_have_what_is_left_to_those_whom_the_sentry_let_wait() -> None:
    """It is counted from the first who served, however late another was given the sockets; and once: later ends are told as ever."""
    scene = Scene()
    scene.slots[0].worker, scene.has_sentry_held = worker(State.OPENING), True
    assert scene.look()
    assert scene.look(60)
    scene.slots[0].worker.state = State.SERVING
    assert scene.look()
    assert scene.wake_at == scene.now + limits.LEFT_HELD_S
    scene.has_sentry_held = False
    assert scene.look(limits.LEFT_HELD_S - 0.1)
    scene.slots[1].worker = worker(State.OPENING, scene.now)
    assert scene.look()
    assert scene.wake_at == pytest.approx(scene.now + 0.1)
    scene.slots[1].worker.state = State.SERVING
    assert scene.look(60)
    scene.slots[1].worker = worker(State.OPENING, scene.now)
    scene.vacancies.note_end(scene.slots[1], scene.now - limits.LEFT_S)
    scene.look()
    assert scene.wake_at == scene.now + limits.LEFT_GRACE_S


def test_who_was_given_the_sockets_just_now_has_a_moment_and_who_does_not_accept_is_ended() -> None:
    """Its copies are of no use either."""
    scene = Scene()
    scene.look()
    scene.now += limits.LEFT_S
    opening = scene.slots[1].worker = worker(State.OPENING, scene.now)
    assert scene.look()
    assert opening.killed == 0
    assert not scene.look(limits.LEFT_GRACE_S)
    assert opening.killed == 1


@pytest.mark.parametrize(("state", "is_left"), [(State.SERVING, False), (State.DRAINING, True)])
def test_one_of_before_serves_it_as_long_as_it_accepts(state: State, *, is_left: bool) -> None:
    """What it carries is not touched by that."""
    scene = Scene()
    elder = worker(state)
    scene.slots[1].elders = [elder]
    scene.look()
    scene.vacancies.note_end(scene.slots[1], NOW - 60)
    assert scene.look(limits.LEFT_S) is not is_left
    assert elder.killed == 0


def test_a_socket_of_which_others_have_copies_listens_no_more() -> None:
    """A worker that the kernel holds has them; who waits is reset, and nobody else comes. One of before that is gone already is no error."""
    scene = Scene()
    with socket.create_server(("127.0.0.1", 0)) as listener, listener.dup() as copy, socket.create_connection(listener.getsockname()) as caller:
        address = listener.getsockname()
        scene.slots[1].sets = [ListenerSet("listeners-1", (ListenerSocket("outbound", 4, listener),))]
        scene.look()
        assert not scene.look(limits.LEFT_S)
        assert copy.fileno() >= 0
        with pytest.raises(ConnectionResetError):
            caller.recv(1)
        with socket.socket() as another:
            assert another.connect_ex(address) == errno.ECONNREFUSED
        ListenerSet("", (ListenerSocket("outbound", 4, copy),)).shut()
