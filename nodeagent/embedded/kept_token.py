"""The management token in the catalog's directory: whether it is there, works, and is closed to others."""

import sqlite3
from pathlib import Path

from nodeagent.embedded.datadir import MANAGEMENT_TOKEN
from nodeagent.embedded.tokens import find_caller
from nodeagent.observe.log import open_log


def told_token(directory: Path, connection: sqlite3.Connection) -> str:
    """What whoever starts a catalog is told of its management token. One that others may read is a warning in the log."""
    path = directory / MANAGEMENT_TOKEN
    make = f"nodeagent catalog --data {directory} token create --management --out {path}"
    try:
        secret = path.read_text(encoding="ascii", errors="replace").strip()
        is_open = path.stat().st_mode & 0o077
    except FileNotFoundError:  # a restore elsewhere, or an operator who took it off the machine
        return f"no management token is kept there; another: {make}"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    caller = find_caller(connection, secret)
    if caller is None or caller.kind != "management":
        return f"{path} is no management token of this catalog; another: {make} --force"
    if is_open:
        open_log().warning("catalog_token_open", path=str(path), cure=f"others may read it, and change everything with it: chmod 0600 {path}")
    return f"management token {path}"
