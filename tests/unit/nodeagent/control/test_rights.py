"""Who the kernel says is calling, and what that allows."""

import asyncio
import grp
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TextIO

import pytest
from aiohttp import web

from nodeagent.control.door import Door
from nodeagent.control.rights import Caller, Rights, caller_of, read_caller, rights_at, writers_only
from tests.support.control_scene import get
from tests.support.loop import run

READERS, WRITERS, OTHERS = 64997, 64998, 64999
OPERATOR, ANYBODY = 64990, 64991


def rights(*, writer_gid: int | None = WRITERS) -> Rights:
    """Root looks, and the readers' group; the writers' changes."""
    return Rights(frozenset((0,)), READERS, writer_gid, "members of the writers' group may")


CALLERS = [
    (0, (0,), True, True),
    (0, (), True, True),
    (OPERATOR, (READERS, WRITERS), True, True),
    (OPERATOR, (READERS,), True, False),
    (OPERATOR, (READERS, OTHERS), True, False),
    (OPERATOR, (WRITERS,), False, False),
    (OPERATOR, (OTHERS,), False, False),
    (OPERATOR, (0,), False, False),
]


@pytest.mark.parametrize(("uid", "gids", "reads", "writes"), CALLERS)
def test_the_sets_decide(uid: int, gids: tuple[int, ...], *, reads: bool, writes: bool) -> None:
    """To change something one must be allowed to look, and be root or in the group that was named for it."""
    caller = Caller(uid, frozenset(gids))
    assert (reads, writes) == (rights().may_read(caller), rights().may_write(caller))
    assert reads == (rights().why_refused(caller) == "")
    assert f"uid {uid} is neither" in rights().why_refused(caller) or reads


@pytest.mark.parametrize(("uid", "gids", "reads", "writes"), CALLERS)
def test_without_a_group_only_root_changes(uid: int, gids: tuple[int, ...], *, reads: bool, writes: bool) -> None:
    """Whoever else was named in the table."""
    assert (writes and uid == 0) == rights(writer_gid=None).may_write(Caller(uid, frozenset(gids)))


def test_our_own_uid_looks_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control is not its own administrator."""
    monkeypatch.setattr(os, "geteuid", lambda: OPERATOR)
    caller = Caller(OPERATOR, frozenset((OPERATOR,)))
    found = rights_at(READERS, "")
    assert (True, False) == (found.may_read(caller), found.may_write(caller))


@pytest.mark.parametrize(
    ("setting", "gid", "says"),
    [
        ("", None, "only root may; admin.write_group can name"),
        ("no-such-group", None, "only root may: there is no group 'no-such-group'"),
        ("daemon", grp.getgrnam("daemon").gr_gid, "root may, and members of the group daemon"),
        (WRITERS, WRITERS, f"members of the group {WRITERS}"),
        (0, 0, "members of the group 0"),
    ],
)
def test_the_group_is_named_or_numbered(setting: str | int, gid: int | None, says: str) -> None:
    """One that does not exist opens nothing, and the refusal says so."""
    found = rights_at(READERS, setting)
    assert (gid, READERS) == (found.writer_gid, found.reader_gid)
    assert says in found.writers


def test_the_kernel_names_the_far_end() -> None:
    """Its uid and its groups."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert Caller(os.geteuid(), frozenset((os.getegid(), *os.getgroups()))) == read_caller(ours)


# --- over a socket ---------------------------------------------------------------------------------------------------


def start_as(uid: int, groups: list[int], work: Callable[[], str]) -> TextIO:
    """A child that is that user: what `work` gives there can be read from here."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        _work_and_end(uid, groups, work, writing)
    os.close(writing)
    return os.fdopen(reading)


def _work_and_end(uid: int, groups: list[int], work: Callable[[], str], writing: int) -> NoReturn:
    try:
        os.setgroups(groups)
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        os.write(writing, work().encode())
    finally:
        os._exit(0)


def answers(path: str, method: str) -> str:
    """Status and text of an answer; `closed` without one."""
    try:
        status, body = get(path, "/x", method)
    except OSError as error:
        return f"closed: {error}"
    return f"{status} {body.decode()}"


WHO = {"root": (0, [0]), "operator": (OPERATOR, [READERS, WRITERS]), "reader": (OPERATOR, [READERS]), "anybody": (ANYBODY, [WRITERS])}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("who", WHO)
def test_a_request_is_served_by_who_asks(who: str, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is no mere look is for writers, and they are told apart although all come through one socket."""
    told = asked(who, method)
    lines = [line.partition("]")[2].split()[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == (["caller_refused"] if who == "anybody" else ["change_refused"] if told.startswith("403") else [])
    if who == "anybody":
        assert told.startswith("closed")
    elif method in ("GET", "HEAD") or who in ("root", "operator"):
        assert told.startswith(f"200 {'' if method == 'HEAD' else WHO[who][0]}")
    else:
        assert told == f"403 uid {OPERATOR} may look here and change nothing: members of the writers' group may"


def asked(who: str, method: str, given: Rights | None = rights()) -> str:  # noqa: B008 - a frozen value
    """What that user is answered by a handler that says who asked."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=str(caller_of(request).uid))

    async def scene(listener: socket.socket, told: TextIO) -> str:
        app = web.Application(middlewares=[writers_only(given)])
        app.router.add_route("*", "/x", handler)
        task = asyncio.create_task(Door(listener, app, lambda sock: rights().why_refused(read_caller(sock)), "here").run())
        text = await asyncio.to_thread(told.read)
        task.cancel()
        await asyncio.wait([task])
        return text

    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        Path(directory).chmod(0o755)  # pytest's own directories are closed to other uids
        path = f"{directory}/sock"
        listener.bind(path)
        Path(path).chmod(0o666)
        listener.listen()
        with start_as(*WHO[who], lambda: answers(path, method)) as told:
            text = run(lambda: scene(listener, told))
        os.wait()
        return str(text)


@pytest.mark.parametrize(("method", "answer"), [("GET", "200"), ("POST", "403 nothing can be changed here")])
def test_where_no_rights_are_given_nobody_changes_anything(method: str, answer: str) -> None:
    """Not even root: the metrics port knows no callers."""
    assert asked("root", method, None).startswith(answer)
