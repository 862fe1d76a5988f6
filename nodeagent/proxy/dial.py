"""What uvloop would do in a thread, or not at all: connecting and waiting for a plain socket."""

import asyncio
import errno
import os
import socket

from nodeagent.model.address import Address


async def dial(sock: socket.socket, address: Address) -> None:
    """Connects the non-blocking `sock`.

    uvloop's own `sock_connect` resolves even an IP address in a thread, which a confined worker may not start: libuv
    then aborts the process.

    Raises:
        OSError: the connection failed, with the kernel's error number.
    """
    error = sock.connect_ex(tuple(address))
    if error == errno.EINPROGRESS:
        await writable(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


async def writable(sock: socket.socket) -> None:
    """Returns when `sock` may be written to, or has failed."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(sock)


async def readable(sock: socket.socket) -> None:
    """Returns when `sock` has as much to read as its SO_RCVLOWAT asks for, or was closed."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
