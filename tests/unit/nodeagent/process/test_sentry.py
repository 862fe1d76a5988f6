"""When the sentry looks, whom it ends and what it says, with a listing of the test's. As a program: test_sentry_process, tests/e2e."""

import json
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from nodeagent import limits
from nodeagent.process import sentry as sentry_module
from nodeagent.process.sentry import BEAT, LEAVE, WATCHES, Sentry, main, read_word, say
from nodeagent.process.unaccepted import Unaccepted
from tests.support.eventually import eventually
from tests.unit.nodeagent.process.test_unaccepted import AGENT, APP, ESTABLISHED, HOST, IN, TRANSPARENT, WEB, row


class Scene:
    """Who waits, who was ended, and the supervisor's end of the channel. Owned by one test."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.waiting: dict[Unaccepted, bytes] = {}
        self.ended: list[Unaccepted] = []
        self.refusal: OSError | None = None
        self.looks = 0
        self.listeners = [IN, APP]
        self._theirs = theirs
        self._thread = threading.Thread(target=Sentry(theirs, self._end, self._look).serve)
        self._thread.start()

    def beat(self, holds_s: float) -> None:
        """As the supervisor tells it."""
        self.ours.send(BEAT.pack(time.monotonic() + holds_s, False))

    def come(self, cookie: int) -> Unaccepted:
        """One more waits."""
        found = row(ESTABLISHED, HOST, WEB, AGENT, TRANSPARENT, cookie=cookie)
        name = Unaccepted(found[0], found[4:52])
        self.waiting[name] = found
        return name

    def close(self, word: bytes = BEAT.pack(LEAVE, False)) -> None:
        """The supervisor takes leave, or ends without it; and the sentry has ended."""
        if word:
            self.ours.send(word)
        self.ours.close()
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._theirs.close()

    def _look(self) -> list[bytes]:
        self.looks += 1
        return [*self.listeners, *self.waiting.values()]

    def _end(self, name: Unaccepted) -> bool:
        if self.refusal:
            raise self.refusal
        self.ended.append(name)
        return self.waiting.pop(name, None) is not None


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A sentry that looks often."""
    for name in ("SENTRY_AHEAD_S", "SENTRY_PATIENCE_S", "SENTRY_ALONE_PATIENCE_S"):
        monkeypatch.setattr(limits, name, 0.2)
    monkeypatch.setattr(limits, "SENTRY_LOOK_S", 0.02)
    made = Scene()
    yield made
    if made.ours.fileno() >= 0:
        made.close()


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What it said since the last look."""
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


@contextmanager
def clocked(
    monkeypatch: pytest.MonkeyPatch, *, look_s: float = 0.0, holds_s: float = limits.SENTRY_AHEAD_S + limits.SENTRY_PATIENCE_S, ends: bool = False,
    is_holding: bool = False,
) -> Iterator[tuple[Sentry, SimpleNamespace, list[Unaccepted]]]:
    """A sentry that was told until when the switch holds, its clock, and whom it ended: somebody waits, and a look takes that long."""
    clock, ended = SimpleNamespace(now=1000.0), []
    waiting = row(ESTABLISHED, HOST, WEB, AGENT, TRANSPARENT, cookie=1)

    def end(each: Unaccepted) -> bool:
        ended.append(each)
        return True

    def look() -> list[bytes]:
        clock.now += look_s
        return [IN, APP, waiting]

    beats, supervisor = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sentry = Sentry(beats, end, look)
    monkeypatch.setattr(sentry_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    with beats, supervisor:
        supervisor.send(BEAT.pack(clock.now + holds_s, is_holding))
        clock.end, clock.tell = supervisor.close, supervisor.send
        if ends:
            clock.end()
        sentry._hear()
        yield sentry, clock, ended


def test_without_a_first_beat_and_with_one_in_time_it_does_not_even_look(scene: Scene) -> None:
    """An agent that starts serves nobody yet, and one that beats is none of its business; nor is one that drains."""
    scene.come(1)
    for holds_s in (1000, limits.SENTRY_AHEAD_S + limits.SENTRY_PATIENCE_S + 1000, math.inf):
        scene.beat(holds_s)
    scene.close()
    assert (scene.looks, scene.ended) == (0, [])


def test_who_waits_is_ended_once_no_beat_came_and_who_was_accepted_meanwhile_is_not(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    """It looks before it ends: a worker that lives has that time. One line tells how many."""
    slow, lucky = scene.come(1), scene.come(2)
    scene.beat(0.3)
    eventually(lambda: scene.looks > 0, 20, "a look")
    assert scene.ended == []
    del scene.waiting[lucky]
    eventually(lambda: scene.ended == [slow], 20, "the slow one is ended")
    late = scene.come(3)
    eventually(lambda: scene.ended == [slow, late], 20, "one that came later, too")
    looks = scene.looks
    eventually(lambda: scene.looks > looks + 2, 20, "looks that find nothing more")
    said = lines(capfd)
    assert [(line["event"], line["number"]) for line in said] in ([("unaccepted_ended", 1)] * 2, [("unaccepted_ended", 2)])
    assert list(said[0]) == ["at", "level", "process", "event", "number", "why"]
    assert said[0]["process"] == "sentry"


def test_a_beat_that_comes_again_begins_all_anew(scene: Scene) -> None:
    """Whoever waited before has not waited for a supervisor that lives."""
    scene.come(1)
    scene.beat(0.3)
    eventually(lambda: scene.looks > 0, 20, "a look")
    scene.beat(1000)
    scene.close()
    assert scene.ended == []


def test_a_machine_that_stood_still_between_two_looks_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor had workers a turn: whoever waits is new to it."""
    with clocked(monkeypatch) as (sentry, clock, ended):
        for step_s, number in ((0.0, 0), (60.0, 0), (limits.SENTRY_LOOK_S, 0), (limits.SENTRY_LOOK_S, 1)):
            clock.now += step_s
            sentry._look()
            assert len(ended) == number


def test_a_look_that_takes_long_is_no_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a host with hundreds of thousands of sockets."""
    with clocked(monkeypatch, look_s=limits.SENTRY_PATIENCE_S) as (sentry, clock, ended):
        sentry._look()
        assert not ended
        clock.now += limits.SENTRY_LOOK_S
        sentry._look()
        assert ended


@pytest.mark.parametrize(("unheard_s", "waits_s"), [(limits.BEAT_S, limits.SENTRY_ALONE_PATIENCE_S), (3.0, limits.SENTRY_ALONE_PATIENCE_S - 2.0)])
def test_alone_it_counts_how_long_nobody_was_heard(monkeypatch: pytest.MonkeyPatch, unheard_s: float, waits_s: float) -> None:
    """Where workers hung before their supervisor ended, callers have waited for as long already."""
    with clocked(monkeypatch, holds_s=limits.ALIVE_S - unheard_s, ends=True) as (sentry, clock, ended):
        sentry._look()
        for _ in range(math.ceil(waits_s / limits.SENTRY_LOOK_S) - 1):
            clock.now += limits.SENTRY_LOOK_S
            sentry._look()
        assert not ended
        clock.now += limits.SENTRY_LOOK_S
        sentry._look()
        assert ended


@pytest.mark.parametrize("unheard_s", [4.6, 6.0, 10.0])
def test_alone_it_gives_workers_that_live_the_time_in_which_they_accept(monkeypatch: pytest.MonkeyPatch, unheard_s: float) -> None:
    """Its supervisor alone hung, and was ended by the service manager."""
    with clocked(monkeypatch, holds_s=limits.ALIVE_S - unheard_s, ends=True) as (sentry, clock, ended):
        for _ in range(math.ceil(limits.SENTRY_PATIENCE_S / limits.SENTRY_LOOK_S)):
            sentry._look()
            assert not ended
            clock.now += limits.SENTRY_LOOK_S
        sentry._look()
        assert ended


@pytest.mark.parametrize("gone_s", [None, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.4, 3.6, 3.9, 4.4])
def test_whoever_came_as_workers_hung_waits_for_less_than_five_seconds(monkeypatch: pytest.MonkeyPatch, gone_s: float | None) -> None:
    """Whenever their supervisor ends, if it does; one that lives goes on beating for a while, and says since when nobody is heard."""
    with clocked(monkeypatch, holds_s=limits.ALIVE_S) as (sentry, clock, ended):
        began = clock.now
        wakes = [] if gone_s is None else [(began + gone_s, clock.end)]
        while not ended:
            clock.now = min([sentry._look_at, *(at for at, _ in wakes)])
            for _, end in wakes:
                if clock.now < sentry._look_at:
                    end()
                    sentry._hear()
                    wakes = []
            if clock.now >= sentry._look_at:
                sentry._look()
        assert 0 < clock.now - began < limits.ALIVE_S - 0.25


def test_who_waits_before_anybody_serves_is_ended_as_without_a_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats go on meanwhile, and change nothing: counted from when that began; one that says that somebody serves ends it."""
    with clocked(monkeypatch, holds_s=limits.ALIVE_S - 0.25, is_holding=True) as (sentry, clock, ended):
        began, beats_at = clock.now - 0.25, clock.now + limits.BEAT_S
        while not ended:
            clock.now = min(sentry._look_at, beats_at)
            if clock.now == beats_at:
                clock.tell(BEAT.pack(began + limits.ALIVE_S, True))
                sentry._hear()
                beats_at += limits.BEAT_S
            else:
                sentry._look()
        assert clock.now - began == limits.SENTRY_ALONE_PATIENCE_S
        clock.tell(BEAT.pack(clock.now + limits.ALIVE_S, False))
        sentry._hear()
        assert sentry._look_at == clock.now + limits.ALIVE_S - limits.SENTRY_AHEAD_S - limits.SENTRY_PATIENCE_S


@pytest.mark.parametrize("held_s", [limits.BEAT_S, 60.0])
def test_who_came_later_before_anybody_serves_has_its_time_also_when_the_supervisor_ends(monkeypatch: pytest.MonkeyPatch, held_s: float) -> None:
    """One that was started later itself does not know who came when: to accept takes some hundred milliseconds."""
    with clocked(monkeypatch, holds_s=limits.ALIVE_S - held_s, is_holding=True) as (sentry, clock, ended):
        began = clock.now
        clock.end()
        sentry._hear()
        while not ended:
            clock.now = sentry._look_at
            sentry._look()
        assert clock.now - began == max(limits.SENTRY_ALONE_PATIENCE_S - held_s, limits.SENTRY_PATIENCE_S)


def test_what_it_ended_is_told_when_the_supervisor_goes(scene: Scene, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The service manager has ended it."""
    monkeypatch.setattr(limits, "SENTRY_LOOK_S", 1000.0)
    scene.come(1)
    monkeypatch.setattr(limits, "SENTRY_PATIENCE_S", 0.0)
    scene.beat(0)
    eventually(lambda: scene.ended, 20, "it is ended")
    scene.close()
    assert [(line["event"], line["number"]) for line in lines(capfd)] == [("unaccepted_ended", 1)]


def test_without_a_parting_word_it_goes_on_alone_for_its_time(scene: Scene, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the switch would hold for long: who waits is ended, and who is accepted meanwhile is not."""
    monkeypatch.setattr(limits, "SENTRY_ALONE_S", 1.5)
    slow, lucky = scene.come(1), scene.come(2)
    scene.beat(1000)
    scene.ours.close()
    eventually(lambda: scene.looks > 0, 20, "a look")
    assert scene.ended == []
    del scene.waiting[lucky]
    eventually(lambda: scene.ended == [slow], 20, "the slow one is ended")
    scene.close(b"")
    assert sum(line["number"] for line in lines(capfd)) == 1


def test_alone_it_ends_when_nobody_can_come_any_more(scene: Scene) -> None:
    """Nobody listens, and the switch has fallen; while it holds, somebody may begin to listen, and hang."""
    scene.listeners = [APP]
    scene.beat(0.5)
    fallen_at = time.monotonic() + 0.4
    scene.ours.close()
    eventually(lambda: scene.looks > 1, 20, "looks")
    scene.close(b"")
    assert time.monotonic() > fallen_at


def test_after_a_parting_word_it_ends_at_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits then is somebody else's business; what was said before does not count any more."""
    monkeypatch.setattr(limits, "SENTRY_ALONE_PATIENCE_S", 0.0)
    scene.come(1)
    scene.beat(0)
    eventually(lambda: scene.looks > 0, 20, "a look")
    ended = len(scene.ended)
    scene.come(2)
    scene.beat(1000)
    scene.close()
    assert len(scene.ended) == ended


def test_words_are_heard_of_a_supervisor_that_ended_and_has_heard_none() -> None:
    """The kernel tells the unread word first, as a reset."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        with ours:
            theirs.send(WATCHES)
            ours.send(BEAT.pack(1.0, True))
            ours.send(BEAT.pack(LEAVE, False))
        assert [read_word(theirs) for _ in range(3)] == [(1.0, True), (LEAVE, False), None]


def test_a_failure_is_told_once_and_it_goes_on(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    """The next look may succeed."""
    name = scene.come(1)
    scene.refusal = OSError(12, "Cannot allocate memory")
    scene.beat(0)
    eventually(lambda: scene.looks > 20, 20, "many looks")
    scene.refusal = None
    eventually(lambda: scene.ended == [name], 20, "it is ended")
    scene.close()
    said = lines(capfd)
    assert [line["event"] for line in said] == ["sentry_failed", "unaccepted_ended"]
    assert "Cannot allocate memory" in said[0]["error"]


@contextmanager
def full_pipe() -> Iterator[int]:
    """Nobody reads there."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(65_536))
    except BlockingIOError:
        os.set_blocking(writer, True)
    yield writer
    os.close(reader)
    os.close(writer)


def test_a_log_that_nobody_reads_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that would wait."""
    with full_pipe() as writer:
        monkeypatch.setattr(sentry_module, "_STDERR", writer)
        say("error", "unaccepted_ended", number=1)


def test_where_the_kernel_cannot_it_says_so_once_and_ends_with_the_supervisor(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """That is no failure: it would be started again and again."""
    monkeypatch.setattr(sentry_module, "can_end", lambda _diag: False)
    for name in ("keep_only", "name_process"):
        monkeypatch.setattr(sentry_module.privileges, name, lambda _: None)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.send(BEAT.pack(0, False))
        ours.send(BEAT.pack(1, False))
    main([str(theirs.detach())])
    assert [line["event"] for line in lines(capfd)] == ["sentry_unable"]
