"""pyroute2's sockets for one use: opened, used and closed in a thread that lives no longer.

Its synchronous calls run an event loop of their own, which fails in a thread that runs one already, as the
supervisor's does. A network namespace belongs to a thread, and a new one starts in its maker's.
"""

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def use_iproute(use: Callable[[Any], Result]) -> Result:
    """What `use` gives, called with an open IPRoute. Blocks for a millisecond; the first time for the import's 150.

    Raises:
        OSError: the kernel refused; errno says why.
    """
    return _in_thread(_open_iproute, use)


def use_ipset(use: Callable[[Any], Result]) -> Result:
    """What `use` gives, called with an open IPSet. Otherwise as `use_iproute`; errno may be one of ipset's own."""
    return _in_thread(_open_ipset, use)


def _in_thread(open_it: Callable[[], Any], use: Callable[[Any], Result]) -> Result:
    with ThreadPoolExecutor(1) as thread:
        try:
            running = thread.submit(_open_and_use, open_it, use)
        except RuntimeError as error:  # what Python makes of the limit on processes
            raise OSError(errno.EAGAIN, "no thread can be started; see TasksMax= and ulimit -u") from error
        return running.result()


def _open_and_use(open_it: Callable[[], Any], use: Callable[[Any], Result]) -> Result:
    # 0.15 s and 20 MiB that commands such as `intercept --help` shall not pay.
    from pyroute2 import NetlinkError  # noqa: PLC0415 - as above

    try:
        with open_it() as opened:
            return use(opened)
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error


def _open_iproute() -> Any:
    from pyroute2 import IPRoute  # noqa: PLC0415 - as above

    return IPRoute(strict_check=True)  # strict: the kernel filters dumps


def _open_ipset() -> Any:
    from pyroute2 import IPSet  # noqa: PLC0415 - as above

    return IPSet()
