"""Paths that somebody named, and that may lie where this user may not look."""

import os
import pwd
from pathlib import Path

import click


def is_taken(path: Path) -> bool:
    """Whether something is there.

    Raises:
        ClickException: it cannot be seen by this user, or there can be no such path.
    """
    try:
        return path.exists()
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}; name a place where {_user()} may write") from error


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"
