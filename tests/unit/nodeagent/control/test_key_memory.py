"""Keys for the next control process."""

import asyncio
import contextlib
import fcntl
import os
import socket

import msgspec
import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.control.agent import _remember
from nodeagent.control.key_memory import (
    KeptKeys,
    KeptSvid,
    KeyMemoryError,
    decode_keys,
    encode_keys,
    hand_keys,
    read_keys,
)
from nodeagent.process.handover import is_sealed
from nodeagent.wire.key_memory import KEYS, SEALS
from tests.support.identity_scene import ANY, Scene, played
from tests.support.loop import until
from tests.support.scripted_catalog import DOMAIN, ScriptedCatalog

ROOTS = msgspec.json.encode(ScriptedCatalog().roots())


def test_roots_come_back_as_the_catalog_gave_them() -> None:
    """And no key is in what is printed."""
    found = decode_keys(encode_keys(ROOTS, ()))
    assert (found.roots, found.trust.bundle.trust_domain, dict(found.svids)) == (ROOTS, DOMAIN, {})
    assert "secret" not in repr(KeptSvid("web", "chain", "secret"))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"garbage", msgspec.msgpack.encode(KeptKeys(2, ROOTS, ())), encode_keys(b"no roots", ()),
        encode_keys(ROOTS, (KeptSvid("web", "no chain", "no key"),)), encode_keys(ROOTS, ())[:-1],
    ],
)  # fmt: skip
def test_what_cannot_be_believed_is_not(data: bytes) -> None:
    """Another version, garbage, or cut off."""
    with pytest.raises(KeyMemoryError):
        decode_keys(data)


def test_the_supervisor_gets_memory_that_nobody_can_change() -> None:
    """Of its word for it, and readable by the next control, as often as one is started."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        hand_keys(ours, b"content")
        data, (fd,), _, _ = socket.recv_fds(theirs, 100, 1)
    assert data == KEYS
    assert is_sealed(fd)
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"other", 0)
    assert [read_keys(os.dup(fd)), read_keys(fd)] == [b"content"] * 2


def test_more_than_the_supervisor_takes_is_not_handed_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would end control for it; whoever asks says that they are not kept."""
    monkeypatch.setattr(limits, "KEYS_BYTES", 3)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, capture_logs() as log:
        theirs.setblocking(False)
        _remember(ours, b"content")
        with pytest.raises(BlockingIOError):
            theirs.recv(100)
    assert [(line["event"], "7 bytes of keys, more than 3" in line["error"]) for line in log] == [("keys_not_kept", True)]


def test_memory_that_could_be_changed_or_is_too_large_is_not_held() -> None:
    """Nor what is no memory."""
    for size, sealed, expected in ((10, SEALS, True), (10, fcntl.F_SEAL_WRITE, False), (limits.KEYS_BYTES + 1, SEALS, False)):
        memory = os.memfd_create("test", os.MFD_ALLOW_SEALING)
        os.truncate(memory, size)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, sealed)
        assert is_sealed(memory) is expected
        os.close(memory)
    with open(os.devnull) as file:  # noqa: PTH123 - a descriptor is wanted
        assert not is_sealed(file.fileno())


def test_restored_keys_are_handed_out_once_it_is_known_what_is_needed() -> None:
    """Be that nothing: without a saved snapshot it is known later than the roots are confirmed, and nothing else changes then."""

    async def script(scene: Scene) -> None:
        kept: list[bytes] = []
        scene.identity.remember = kept.append
        scene.identity.need(frozenset())
        scene.identity.ask("till")
        await until(lambda: scene.names() == ["till"] and kept, "a certificate")
        heir, confirmed = Scene(scene.peer, ANY), asyncio.Event()
        heir.identity._on_trust = confirmed.set
        heir.identity.restore(kept[-1])
        async with heir.catalog:
            task = asyncio.create_task(heir.identity.run())
            await confirmed.wait()
            await until(lambda: not heir.identity._ring_changed.is_set(), "there is no news")
            assert heir.rings == []
            heir.identity.need(frozenset())
            await until(lambda: heir.names() == ["till"], "the restored one")
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    played(script)
