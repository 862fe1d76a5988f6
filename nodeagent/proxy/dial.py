"""Connecting a socket without asking a resolver."""

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
        await _writable(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    writable: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock, _settle, writable)
    try:
        await writable
    finally:
        loop.remove_writer(sock)


def _settle(writable: asyncio.Future[None]) -> None:
    if not writable.done():
        writable.set_result(None)
