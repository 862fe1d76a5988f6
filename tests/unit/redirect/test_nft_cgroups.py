"""Elements of sets keyed by cgroup: the kernel's bytes, and the names that nft takes."""

import struct
from pathlib import Path

import pytest

from redirect.netlink import NESTED, encode_attribute
from redirect.nft_cgroups import CgroupElement, decode_elements, name_cgroups


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute of attributes."""
    return encode_attribute(kind | NESTED, b"".join(parts))


def element(key: bytes, data: bytes = b"") -> bytes:
    """One of a listing, as the kernel writes it."""
    parts = [nested(1, encode_attribute(1, key)), *([nested(2, encode_attribute(1, data))] if data else [])]
    return nested(1, *parts)


def row(*elements: bytes) -> bytes:
    """A message of a listing, without its head."""
    return bytes(4) + encode_attribute(1, b"nodeagent\0") + encode_attribute(2, b"units\0") + nested(3, *elements)


def test_elements_are_numbers_of_cgroups_with_or_without_a_mark() -> None:
    """Several in one message."""
    numbers = [struct.pack("=Q", number) for number in (7, 1 << 40)]
    assert [*decode_elements(row(*map(element, numbers)))] == [CgroupElement(7), CgroupElement(1 << 40)]
    mapped = row(*(element(number, struct.pack("=I", 0x5A000001)) for number in numbers))
    assert [*decode_elements(mapped)] == [CgroupElement(7, 0x5A000001), CgroupElement(1 << 40, 0x5A000001)]


@pytest.mark.parametrize("data", [b"", bytes(4), row(), row(b"\x04"), row(element(b"1234"))])
def test_what_is_no_element_is_passed_over(data: bytes) -> None:
    """It neither raises nor becomes one."""
    assert [*decode_elements(data)] == []


def test_a_cgroup_is_named_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has ended has none, and a path that nft could misread gives none."""
    (tmp_path / "system.slice/web.service").mkdir(parents=True)
    (tmp_path / 'a"b').mkdir()
    monkeypatch.setattr("redirect.cgroup.BELOW", str(tmp_path))
    web, quoted = ((tmp_path / name).stat().st_ino for name in ("system.slice/web.service", 'a"b'))
    wanted = [CgroupElement(web, 0x5A000001), CgroupElement(quoted), CgroupElement(1)]
    assert [*name_cgroups(str(tmp_path), wanted)] == ['"system.slice/web.service" : 0x5a000001']
    assert [*name_cgroups(str(tmp_path), [CgroupElement(web)])] == ['"system.slice/web.service"']
