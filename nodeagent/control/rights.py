"""Who calls at the admin socket, as the kernel names them, and what they may: look, or change something too."""

import asyncio
import grp
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Middleware

from nodeagent.observe.flood import Flood
from nodeagent.observe.log import open_log

_UCRED = struct.Struct("=iII")
_SO_PEERGROUPS = 59  # Linux 4.13; Python has no name for it
_GROUP_BYTES = 1024  # the most that Python asks for: 256 groups
_READING = ("GET", "HEAD")

_log = open_log()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Caller(NamedTuple):
    """The far end of a Unix connection at the moment of its connect()."""

    uid: int
    gids: frozenset[int]
    """Its own group and the supplementary ones."""


def read_caller(sock: socket.socket) -> Caller:
    """Whom the kernel wrote down when the connection was made: whoever holds the far end by now changes nothing.

    Raises:
        OSError: the socket is closed.
    """
    _, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Caller(uid, frozenset((gid, *_groups(sock))))


def _groups(sock: socket.socket) -> tuple[int, ...]:
    """The supplementary groups of the far end; none when they are too many to be told."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUP_BYTES)
    except OSError:
        return ()
    return tuple(gid for (gid,) in struct.iter_unpack("=I", raw))


@dataclass(frozen=True, slots=True)
class Rights:
    """The two sets at one socket: who may look, and which of them may change something."""

    reader_uids: frozenset[int]
    reader_gid: int
    writer_gid: int | None
    writers: str
    """Who may change something, in words."""

    def may_read(self, caller: Caller) -> bool:
        """Whether it is answered at all."""
        return caller.uid in self.reader_uids or self.reader_gid in caller.gids

    def why_refused(self, caller: Caller) -> str:
        """Why it is not answered at all; empty: it is."""
        return "" if self.may_read(caller) else f"uid {caller.uid} is neither root nor in group {self.reader_gid}, the socket's"

    def may_write(self, caller: Caller) -> bool:
        """Whether it may change something: root, and who is in the group that was named for that."""
        return self.may_read(caller) and (caller.uid == 0 or self.writer_gid in caller.gids)


def rights_at(socket_gid: int, write_group: str | int) -> Rights:
    """Root, our own uid and the socket's group look; root and `write_group` write. A group that does not exist has no members."""
    readers = frozenset((0, os.geteuid()))
    if write_group == "":
        return Rights(readers, socket_gid, None, "only root may; admin.write_group can name a group that may too")
    gid = _find_group(write_group)
    if gid is None:
        return Rights(readers, socket_gid, None, f"only root may: there is no group {write_group!r} (admin.write_group)")
    return Rights(readers, socket_gid, gid, f"root may, and members of the group {write_group} (admin.write_group)")


def caller_of(request: web.Request) -> Caller:
    """Who asks, as the kernel names them.

    Raises:
        HTTPForbidden: the connection has ended, and with it what the kernel knew.
    """
    transport = request.transport
    try:
        if transport:
            return read_caller(transport.get_extra_info("socket"))
    except OSError:
        pass
    raise web.HTTPForbidden(text="the connection has ended; who it was is not known any more")


def writers_only(rights: Rights | None) -> Middleware:
    """Stands before every handler: what is not a mere look is for writers, be its path known or not; without rights for nobody."""
    flood = Flood()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method in _READING:
            return await handler(request)
        if rights is None:
            raise web.HTTPForbidden(text="nothing can be changed here")
        caller = caller_of(request)
        if not rights.may_write(caller):
            if flood.judge(str(caller.uid), asyncio.get_running_loop().time()) != "none":
                _log.warning("change_refused", uid=caller.uid, method=request.method)
            raise web.HTTPForbidden(text=f"uid {caller.uid} may look here and change nothing: {rights.writers}")
        return await handler(request)

    return check


def _find_group(setting: str | int) -> int | None:
    try:
        return setting if isinstance(setting, int) else grp.getgrnam(setting).gr_gid
    except KeyError:
        return None
