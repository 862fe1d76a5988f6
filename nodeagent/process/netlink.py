"""Netlink in the little that two exact look-ups need: one request with one answer. Never a dump."""

import errno
import os
import socket
import struct

from redirect.netlink import HEAD

_ERROR = struct.Struct("=i")
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_ERRNO_MAX = 4095  # linux/err.h, MAX_ERRNO
_ANSWER_BYTES = 16_384  # a conntrack entry with all its extensions is below 1 KiB
_STALE_ANSWERS = 8  # late answers of an earlier request that are read away before giving up


class NetlinkError(OSError):
    """The kernel could not answer; `errno` says why. "Not found" is not an error but None."""


def encode_request(kind: int, sequence: int, body: bytes) -> bytes:
    """A request for one object: the flag that would make it a dump is not among those this module knows."""
    return HEAD.pack(HEAD.size + len(body), kind, _NLM_F_REQUEST, sequence, 0) + body


def decode_answer(data: bytes, sequence: int) -> bytes | None:
    """The body of the answer to request `sequence`; None where the kernel knows no such object.

    Raises:
        StaleAnswer: the message answers another request.
        NetlinkError: any other refusal of the kernel, or a message that is cut off.
    """
    if len(data) < HEAD.size:
        raise NetlinkError(errno.EBADMSG, f"a netlink message of {len(data)} bytes")
    length, kind, _, number, _ = HEAD.unpack_from(data)
    if number != sequence:
        raise StaleAnswer(number)
    if not HEAD.size <= length <= len(data):
        raise NetlinkError(errno.EBADMSG, f"a netlink message of {len(data)} bytes that says it has {length}")
    body = data[HEAD.size : length]
    if kind != _NLMSG_ERROR:
        return body
    if len(body) < _ERROR.size:
        raise NetlinkError(errno.EBADMSG, "a netlink error without a code")
    code = -_ERROR.unpack_from(body)[0]
    if code == errno.ENOENT:
        return None
    if not 0 <= code <= _ERRNO_MAX:
        raise NetlinkError(errno.EBADMSG, f"a netlink error of number {code}")
    raise NetlinkError(code, os.strerror(code))


class StaleAnswer(Exception):
    """A late answer to an earlier request."""


class NetlinkSocket:
    """One raw netlink socket that asks and answers in step. Owned by one thread.

    The kernel answers within the send call, so that a receive never waits; where it has no answer ready, that is an
    error and not a reason to block the supervisor.
    """

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        self._socket.bind((0, 0))
        self._sequence = 0

    def ask(self, kind: int, body: bytes) -> bytes | None:
        """The kernel's answer to one request; None where it knows no such object.

        Raises:
            NetlinkError: the kernel refused, or did not answer.
        """
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        try:
            self._socket.send(encode_request(kind, self._sequence, body))
            for _ in range(_STALE_ANSWERS):
                try:
                    return decode_answer(self._socket.recv(_ANSWER_BYTES), self._sequence)
                except StaleAnswer:
                    continue
        except NetlinkError:
            raise
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO, f"netlink: {error.strerror}") from error
        raise NetlinkError(errno.EBADMSG, "netlink: only answers to earlier requests")

    def close(self) -> None:
        """Gives the descriptor back."""
        self._socket.close()
