"""The snapshot on disk."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from msgspec.structs import replace

from nodeagent import limits
from nodeagent.catalog.buckets import buckets_of
from nodeagent.catalog.state import CatalogState, IntentionRow
from nodeagent.control.last_good import (
    LastGood,
    SpoiledError,
    encode_last_good,
    parse_last_good,
    read_last_good,
    write_last_good,
)
from nodeagent.model.policy.intentions import Permission, PermissionMatch
from nodeagent.model.policy.routing import ServiceRouter
from tests.support.mesh import state
from tests.support.states import states

SAVED = LastGood(123.5, "test.consul", 7, state("shop -> web allow"))


def test_what_was_written_is_read(tmp_path) -> None:
    path = tmp_path / "snapshot"
    write_last_good(path, SAVED)
    assert read_last_good(path) == SAVED
    assert [each.name for each in tmp_path.iterdir()] == ["snapshot"]


def test_a_second_write_replaces_the_first(tmp_path) -> None:
    path = tmp_path / "snapshot"
    write_last_good(path, SAVED)
    write_last_good(path, LastGood(200.0, "test.consul", 8, state()))
    again = read_last_good(path)
    assert again is not None
    assert (again.generation, again.state) == (8, state())


def test_nothing_saved_is_none(tmp_path) -> None:
    assert read_last_good(tmp_path / "snapshot") is None


def spoil(raw: bytes) -> list[bytes]:
    flipped = bytearray(raw)
    flipped[len(raw) // 2] ^= 1
    return [b"", raw[:10], raw[:-1], raw + b"x", bytes(flipped), b"nodeagent snapshot 2\n" + raw[21:], b"\0" * len(raw)]


@pytest.mark.parametrize("kind", range(7))
def test_a_spoiled_file_is_put_aside_and_not_read_again(tmp_path, kind: int) -> None:
    path = tmp_path / "snapshot"
    write_last_good(path, SAVED)
    path.write_bytes(spoil(path.read_bytes())[kind])
    with pytest.raises(SpoiledError, match=r"snapshot.spoiled"):
        read_last_good(path)
    assert read_last_good(path) is None
    assert (tmp_path / "snapshot.spoiled").exists()


def signed(said: object) -> bytes:
    body = msgspec.msgpack.encode(said)
    return b"nodeagent snapshot 1\n" + hashlib.sha256(body).digest() + body


def test_a_right_sum_over_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="saved_at"):
        parse_last_good(signed({"saved_at": "never"}))


def test_versions_that_know_no_entries_about_requests_are_read_and_read_it() -> None:
    """Of another version's file each takes what it knows, by name; a row with permissions is a deny to who knows none."""
    permission = Permission(action="allow", http=PermissionMatch(path_prefix="/"))
    router = ServiceRouter(kind="service-router", name="web")
    full = replace(state(), intentions=(IntentionRow("shop", "web", "deny", "", (permission,)),), routers={"web": router}, protocols={"web": "http"})
    said = msgspec.msgpack.decode(b"".join(encode_last_good(LastGood(1.0, "td", 7, full)))[21 + 32 :])
    assert [(row["source"], row["destination"], row["action"]) for row in said["state"]["intentions"]] == [("shop", "web", "deny")]
    older = ("hosts", "instances", "intentions", "protocols", "default_protocol", "is_late", "intentions_in", "is_forgotten")
    said["state"] = {name: said["state"][name] for name in older} | {"of_the_next_version": 1}
    del said["state"]["intentions"][0]["permissions"]
    plain = (IntentionRow("shop", "web", "deny"),)
    assert parse_last_good(signed(said)).state == replace(full, intentions=plain, routers={})


def test_a_directory_that_cannot_be_written_is_an_os_error(tmp_path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_last_good(tmp_path / "missing" / "snapshot", SAVED)


@given(states)
def test_the_pieces_are_what_would_be_written_at_once(said: CatalogState) -> None:
    """Also of maps that are no dicts."""
    for instances in (said.instances, buckets_of(said.instances)):
        saved = LastGood(1.0, "td", 2, msgspec.structs.replace(said, instances=instances))
        assert LastGood(1.0, "td", 2, said) == parse_last_good(b"".join(encode_last_good(saved)))


def test_a_large_state_is_many_pieces() -> None:
    """No other thread has a turn while one is encoded."""
    large = CatalogState(instances={f"s{number}": () for number in range(5 * limits.DECODE_ROWS)})
    pieces = encode_last_good(LastGood(1.0, "td", 2, large))
    assert 10 < len(pieces)
    assert 4 * max(map(len, pieces)) < sum(map(len, pieces))
