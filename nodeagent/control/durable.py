"""Replacing a file so that a crash or a power cut leaves the old one or the new one, whole."""

import os
from collections.abc import Sequence
from pathlib import Path


def replace_file(path: Path, data: bytes | Sequence[bytes], mode: int = 0o600) -> None:
    """Makes `data`, which may come in pieces, all that the file says. What is in the way under its temporary name is removed, never followed.

    Raises:
        OSError: the disk is full or broken, or the directory cannot be written; what was there before still is.
    """
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # the umask cut it
            file.writelines((data,) if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(descriptor)
        fresh.rename(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    _keep_name(path.parent)


def _keep_name(directory: Path) -> None:
    """Writes the directory itself to disk: without that, the new name may be lost."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
