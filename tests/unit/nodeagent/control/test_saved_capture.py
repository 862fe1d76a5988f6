"""What is to be captured, on disk."""

import stat
from pathlib import Path

from nodeagent.catalog.compiler import capture_of
from nodeagent.control.saved_capture import save_capture
from nodeagent.wire.capture_file import NAME, decode_capture
from tests.support.mesh import mesh


def test_the_newest_replaces_what_was_there_and_its_group_may_read_it(tmp_path: Path) -> None:
    """The supervisor is in that group, and has no other way."""
    save_capture(tmp_path, mesh())
    save_capture(tmp_path, mesh(generation=3, cart=()))
    path = tmp_path / NAME
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    wanted = capture_of(mesh(generation=3, cart=()))
    saved = decode_capture(path.read_bytes())
    assert (saved.addresses, saved.ports) == (list(wanted.addresses), list(wanted.ports))


def test_where_the_catalog_is_is_kept_for_a_start_without_a_resolver(tmp_path: Path) -> None:
    """Boot: the rules come before the network."""
    save_capture(tmp_path, mesh(), ("10.0.0.9",))
    assert decode_capture((tmp_path / NAME).read_bytes()).catalog == ["10.0.0.9"]
