"""A program for tests of how programs are started: writes what it was given to a descriptor.

Usage: python -m tests.support.tell WRITE_FD OTHER_FD
"""

import os
import sys


def main(write: int, other: int) -> None:
    """Writes $MARK and whether the other descriptor is open here."""
    try:
        os.fstat(other)
        state = "open"
    except OSError:
        state = "closed"
    os.write(write, f"{os.environ['MARK']} {state}".encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
