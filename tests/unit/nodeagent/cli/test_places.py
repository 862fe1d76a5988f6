"""Paths that the command line names, seen by users who may not look everywhere."""

import os
import pwd
from pathlib import Path

import click
import pytest

from nodeagent.cli.places import is_taken


def test_what_is_there_is_taken(tmp_path: Path) -> None:
    assert (is_taken(tmp_path), is_taken(tmp_path / "none"), is_taken(tmp_path / "none" / "none")) == (True, False, False)


@pytest.mark.parametrize("name", ["root", ""])
def test_a_place_that_cannot_be_looked_at_is_said_so_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """In one sentence that names the user, also one without a name."""

    def refuse(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied", "x")

    def nameless(uid: int) -> object:
        raise KeyError(uid)

    monkeypatch.setattr(Path, "exists", refuse)
    if not name:
        monkeypatch.setattr(pwd, "getpwuid", nameless)
    with pytest.raises(click.ClickException) as caught:
        is_taken(tmp_path)
    assert caught.value.message == f"{tmp_path}: Permission denied; name a place where {name or f'uid {os.geteuid()}'} may write"


def test_a_name_that_no_file_can_have_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="File name too long"):
        is_taken(tmp_path / ("x" * 300))
