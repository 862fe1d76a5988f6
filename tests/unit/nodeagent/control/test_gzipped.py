"""What is unpacked, and how much of it; and the one answer that is asked for so."""

import gzip
import zlib

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.config import CatalogTable
from nodeagent.control import gzipped
from nodeagent.control.consul import Catalog, CatalogRefused, CatalogUnusable
from nodeagent.control.gzipped import BadGzip, unpacked
from tests.support.loop import run
from tests.support.scripted_catalog import INVENTORY, NODES, ScriptedCatalog

TEXT = b"".join(b"%d," % number for number in range(5000))
PACKED = gzip.compress(TEXT)
LONG = b"[" + b" " * 100_000 + b"]"


@pytest.mark.parametrize("size", [1, 7, 1000, len(PACKED)])
@pytest.mark.parametrize("piece", [100, 1 << 20])
def test_it_is_the_same_however_it_came(size: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzipped, "_PIECE_BYTES", piece)
    chunks = [PACKED[at : at + size] for at in range(0, len(PACKED), size)]
    assert b"".join(unpacked(chunks, len(TEXT))) == TEXT
    assert chunks == []


def test_of_too_much_no_more_is_unpacked_than_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred megabytes here are a hundred kilobytes there."""
    monkeypatch.setattr(gzipped, "_PIECE_BYTES", 1000)
    bomb = gzip.compress(bytes(1 << 22))
    assert len(bomb) < 5000
    assert [len(piece) for piece in unpacked([bomb], 2500)] == [1000] * 3


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", PACKED[:-1], PACKED[:9], PACKED + b"x", PACKED + PACKED, b"\x1f\x8b" + bytes(20), zlib.compress(TEXT),
        PACKED[:-8] + bytes(8), PACKED[:50] + b"\xff" * 50 + PACKED[100:],
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_what_is_no_whole_one_is_refused(body: bytes, size: int) -> None:
    with pytest.raises(BadGzip):
        unpacked([body[at : at + size] for at in range(0, len(body), size)], 1 << 20)


def packed(body: bytes, status: int = 200, encoding: str = "gzip") -> web.Response:
    return web.Response(body=body, status=status, headers={"Content-Encoding": encoding, "X-Consul-Index": "7"})


def read(response: web.Response, path: str = INVENTORY) -> tuple[bytes, str]:
    """The body, and what was accepted."""
    accepted: list[str] = []

    def script(request: web.Request) -> web.Response:
        accepted.append(request.headers["Accept-Encoding"])
        return response

    async def scene() -> bytes:
        async with ScriptedCatalog() as peer, Catalog(CatalogTable(peer.address, token_file=""), lambda: 1.0) as catalog:
            peer.scripts[path] = script
            try:
                return (await catalog.read(path)).body
            finally:
                assert not catalog._long.locked()

    return run(scene), *accepted


def test_it_is_unpacked() -> None:
    assert read(packed(gzip.compress(LONG))) == (LONG, "gzip")


def test_all_others_are_asked_for_as_they_are() -> None:
    assert read(web.Response(body=b"[]"), NODES) == (b"[]", "identity")
    assert read(packed(gzip.compress(LONG)), NODES) == (LONG, "identity")


def test_a_refusal_is_read_all_the_same() -> None:
    with pytest.raises(CatalogRefused, match="Permission denied"):
        read(packed(gzip.compress(b"Permission denied"), 403))


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (packed(gzip.compress(LONG)[:-3]), "cannot be unpacked: it is cut short"),
        (packed(b"[]"), "cannot be unpacked"),
        (packed(b"[]", encoding="br"), "an answer encoded as 'br', which nobody asked for"),
    ],
)
def test_what_cannot_be_unpacked_is_refused(response: web.Response, why: str) -> None:
    with pytest.raises(CatalogUnusable, match=why):
        read(response)


@pytest.mark.parametrize("most", [len(LONG) - 1, 50])
def test_what_is_too_long_is_refused_packed_or_not(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CATALOG_BODY_BYTES", most)
    with pytest.raises(CatalogUnusable, match=f"more than {most} bytes; refused"):
        read(packed(gzip.compress(LONG)))
