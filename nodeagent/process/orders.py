"""What the supervisor and its spawner say to each other. Both are root and of one version: MessagePack on SEQPACKET."""

import array
import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from nodeagent.config import Config
from nodeagent.errors import FrameError

_MESSAGE_BYTES = 4096
_DESCRIPTORS = 2  # both channels of a worker
_FD_BYTES = array.array("i").itemsize


class SpawnerSetup(msgspec.Struct, frozen=True):
    """What a spawner is started with, in a memfd: the configuration that was checked, not the file that may have changed."""

    config: Config
    uid: int
    gid: int
    start: str
    """Workers' tags begin with it (`process/starts`)."""


class Spawn(msgspec.Struct, tag="spawn", frozen=True):
    """Supervisor to spawner: fork a worker. Beside it: its two channels."""

    serial: int
    """Of this order: a late report of an earlier one must not be taken for it."""
    number: int


class Spawned(msgspec.Struct, tag="spawned", frozen=True):
    """Spawner to supervisor: it lives. Beside it: its pidfd."""

    serial: int
    number: int
    pid: int


class Exited(msgspec.Struct, tag="exited", frozen=True):
    """Spawner to supervisor: it has ended and was reaped."""

    pid: int
    code: int
    """Exit code, or minus the signal."""


Order = Spawn | Spawned | Exited

_decoder: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_setup_decoder = msgspec.msgpack.Decoder(SpawnerSetup)


class Received(NamedTuple):
    """An order and the descriptors that came beside it; they belong to the receiver."""

    order: Order
    descriptors: tuple[int, ...]


def encode_setup(setup: SpawnerSetup) -> bytes:
    """The content of the memfd."""
    return msgspec.msgpack.encode(setup)


def decode_setup(data: bytes) -> SpawnerSetup:
    """The setup in the memfd's content."""
    return _setup_decoder.decode(data)


def send_order(channel: socket.socket, order: Order, descriptors: Sequence[int] = ()) -> None:
    """Sends one order; descriptors stay open here too.

    Raises:
        OSError: the other end is gone, or does not read.
    """
    beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    channel.sendmsg([msgspec.msgpack.encode(order)], beside)


def receive_order(channel: socket.socket) -> Received | None:
    """The next order; None when the other end is gone.

    Raises:
        BlockingIOError: there is none yet.
        FrameError: not an order.
    """
    room = socket.CMSG_LEN(_DESCRIPTORS * _FD_BYTES)
    try:
        data, beside, flags, _ = channel.recvmsg(_MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None
    if not data:
        return None
    descriptors = array.array("i", b"".join(content[: len(content) // _FD_BYTES * _FD_BYTES] for _, _, content in beside))
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):  # also where this process has no room for the descriptors
        for fd in descriptors:
            os.close(fd)
        raise FrameError("an order that was cut off")
    try:
        return Received(_decoder.decode(data), tuple(descriptors))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"not an order: {error}") from error
