"""`python -m nodeagent.process.key_writer PATH FD`: control's memory of keys onto the disk, for `process/key_file`."""

import errno
import fcntl
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from nodeagent import limits
from nodeagent.control.durable import replace_file


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0, or the number of what the system refused. SIGALRM ends it where the disk stalls."""
    path, memory = arguments
    signal.setitimer(signal.ITIMER_REAL, limits.KEY_FILE_S)
    try:
        _write(Path(path), os.pread(int(memory), limits.KEYS_BYTES, 0))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _write(path: Path, content: bytes) -> None:
    """After whoever is still at it: a supervisor that crashed may have left one."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        replace_file(path, content)
    finally:
        os.close(directory)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
