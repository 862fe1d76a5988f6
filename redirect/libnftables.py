"""libnftables by ctypes: run text commands in one transaction, or only check them. The ABI is soname 1's, stable since 2018.

Text, not JSON: nft 1.0.6 cannot express `socket cgroupv2` in JSON and drops its level when it lists.
"""

import ctypes
import errno
import os
import re
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from redirect.errors import RedirectError

STATELESS = 1 << 2  # no packet counts, no remaining timeouts
TERSE = 1 << 11  # no elements of named sets; those of a rule's own set are shown

_MESSAGE_LINES = 3  # of an error: the rest repeats the command, which may hold 20,000 addresses
_MESSAGE_BYTES = 400
_FD_SETSIZE = 1024
_NOTHING_THERE = os.strerror(errno.ENOENT)
_one_at_a_time = threading.Lock()  # the library keeps caches in globals


class LibraryMissing(RedirectError):
    """This host has no libnftables."""


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        raise LibraryMissing("libnftables.so.1 is missing; on Debian: apt install libnftables1") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    return library


def _refuse_high_descriptors() -> None:
    """The library waits with select(), which aborts the whole process for descriptors from 1024 on.

    It also ends the process when it gets no descriptor at all.
    """
    try:
        with Path("/dev/null").open("rb") as next_free:
            number = next_free.fileno()
    except OSError as error:
        raise RedirectError(f"libnftables needs a descriptor: {error}; see LimitNOFILE= and ulimit -n") from error
    if number >= _FD_SETSIZE:
        raise RedirectError(f"{_FD_SETSIZE} files or more are open, and libnftables cannot work with that many")


class NothingThere(RedirectError):
    """A command named a table, chain, set or element that does not exist."""


class Nft:
    """A context of the library, bound to the network namespace of the thread that makes it. Closed by its owner."""

    def __init__(self) -> None:
        self._library = _load()
        _refuse_high_descriptors()
        with _one_at_a_time:
            self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise RedirectError("libnftables could not be started; is the process root, with CAP_NET_ADMIN?")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the context; a second time does nothing."""
        context, self._context = self._context, None
        if context:
            with _one_at_a_time:
                self._library.nft_ctx_free(context)

    def run(self, commands: str, *, flags: int = 0) -> str:
        """What the commands printed. They take effect all together or not at all.

        Raises:
            RedirectError: nft or the kernel refused; the message is theirs.
        """
        return self._run(commands, flags=flags, dry_run=False)

    def check(self, commands: str) -> None:
        """Has nft and the kernel judge the commands, and changes nothing.

        Raises:
            RedirectError: as `run`.
        """
        self._run(commands, flags=0, dry_run=True)

    def _run(self, commands: str, *, flags: int, dry_run: bool) -> str:
        if not self._context:
            raise RedirectError("this libnftables context is closed")
        with _one_at_a_time:
            self._library.nft_ctx_output_set_flags(self._context, flags)
            self._library.nft_ctx_set_dry_run(self._context, dry_run)
            failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
            output: bytes = self._library.nft_ctx_get_output_buffer(self._context)
            errors: bytes = self._library.nft_ctx_get_error_buffer(self._context)
        if failed:
            message = explain(errors.decode(errors="replace"))
            raise (NothingThere if _NOTHING_THERE in message else RedirectError)(f"nft: {message}")
        return output.decode(errors="replace")  # a comment may be anybody's bytes


def explain(errors: str) -> str:
    """The telling lines of nft's error text."""
    lines = dict.fromkeys(re.sub(r"^\S+?:\d+:[\d-]+: ", "", line) for line in errors.splitlines() if "rror" in line)
    return "; ".join([*lines][:_MESSAGE_LINES])[:_MESSAGE_BYTES] or errors.strip()[:_MESSAGE_BYTES] or "no reason given"
