"""Power cuts: of what was not synced any part may be lost; what the catalog has acknowledged, and each index that it told, is there."""

import random
import subprocess

import pytest

from tests.e2e.test_catalog_durability import PATHS, Ledger
from tests.support.cut_disk import CALLS, CutDisk, calls_of
from tests.support.warm_catalog import Nursery, WarmCatalog

CUTS = 150
WRITES = 40
LARGE = 90  # values of 60,000 bytes: with so many the log goes over into the database, and begins anew
RARE = ("rename", "unlink", "ftruncate", "fsync")  # each of these is a place for a cut
OK = b"HTTP/1.1 200 "


class Said:
    """What a client knew after each answer: what was stored, and at which index each list was."""

    def __init__(self):
        self.after = [({kind: {} for kind in PATHS}, dict.fromkeys(PATHS, 0))]

    def note(self, ledger):
        stored = {kind: dict(names) for kind, names in ledger.stored.items()}
        self.after.append((stored, {kind: index for kind, (index, _) in ledger.seen.items()}))


def use(catalog):
    """Writes, and looks after each; what was known after each of the answers of 200."""
    client, ledger, said, draw = catalog.client(), Ledger(), Said(), random.Random(1)
    client.ok("PUT", "/v1/catalog/register", {"Node": "host1", "Address": "10.0.0.1"})
    said.note(ledger)
    for number in range(1, WRITES + LARGE):
        kind = "kv" if number > WRITES else draw.choice(list(PATHS))
        if number > WRITES:
            client.ok("PUT", f"/v1/kv/large{number}", draw.randbytes(60_000))
        else:
            name = f"w{draw.randrange(4)}"
            assert ledger.write(client, kind, name, number if draw.random() < 0.8 else 0).status == 200
        said.note(ledger)
        answer = client.get(PATHS[kind])
        ledger.see(kind, answer)
        if answer.status == 200:
            said.note(ledger)
    return said.after


def traced(nursery, where):
    """The trace of a catalog's whole life, which ended by a kill, and what its client knew."""
    catalog, trace = WarmCatalog(nursery, where / "data").fork(), where / "trace"
    argv = ["strace", "-f", "-y", "-xx", "-s", "70000", "-o", str(trace), "-e", f"trace={CALLS}", "-p", str(catalog.pid)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as strace:
        assert "attached" in strace.stderr.readline()
        try:
            assert catalog.go(), catalog.log()
            known = use(catalog)
        finally:
            catalog.end()
    return trace, known


def look_after_cut(nursery, data, known, following):
    """The catalog starts with what was left: all that was known, or what was on its way besides."""
    (stored, indexes), (later, _) = known, following
    catalog = WarmCatalog(nursery, data).fork()
    try:
        assert catalog.go(), catalog.log()
        ledger = Ledger()
        for kind, path in PATHS.items():
            answer = catalog.client().get(path)
            found = {name: value for name, value in ledger.see(kind, answer).items() if not name.startswith("large")}
            assert found in (stored[kind], later[kind])
            assert answer.index >= indexes[kind]
    finally:
        catalog.end()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_power_cut_at_any_call_loses_nothing_that_was_acknowledged(tmp_path):
    """Nothing of what was not synced is left, all of it, or each part by chance."""
    draw = random.Random(2)
    with Nursery() as nursery:
        trace, known = traced(nursery, tmp_path)
        calls = list(calls_of(trace))
        assert sum(name == "fdatasync" for name, _, _ in calls) > WRITES
        cuts = {number for number, (name, _, _) in enumerate(calls) if name in RARE} | {len(calls) - 1}
        cuts |= set(draw.sample(range(len(calls)), CUTS))
        disk, answers = CutDisk(tmp_path / "data"), 0
        for number, (name, texts, words) in enumerate(calls):
            disk.apply(name, texts, words)
            answers += name == "sendto" and texts[-1].startswith(OK)
            if number in cuts:
                keep = draw.choice([lambda: False, lambda: True, lambda: draw.random() < 0.5])
                disk.write(tmp_path / f"cut{number}", keep)
                look_after_cut(nursery, tmp_path / f"cut{number}", known[answers], known[min(answers + 1, len(known) - 1)])
    assert answers == len(known) - 1


def test_the_disk_notices_what_was_not_synced(tmp_path):
    """Bytes without a sync, a name whose directory was not synced, a file that was replaced."""
    disk, path = CutDisk(tmp_path), f"{tmp_path}/a".encode()

    def left(keep=lambda: False):
        disk.write(tmp_path / "left", keep)
        found = {each.name: each.read_bytes() for each in (tmp_path / "left").iterdir()}
        for each in (tmp_path / "left").iterdir():
            each.unlink()
        (tmp_path / "left").rmdir()
        return found

    disk.apply("openat", [b"/", path], ["O_CREAT"])
    disk.apply("pwrite64", [path, b"one"], ["7", "3", "2"])
    assert (left(), left(lambda: True)) == ({}, {"a": b"\0\0one"})
    disk.apply("fsync", [path], ["7"])
    assert left() == {}
    disk.apply("fsync", [str(tmp_path).encode()], ["8"])
    disk.apply("ftruncate", [path], ["7", "1"])
    assert (left(), left(lambda: True)) == ({"a": b"\0\0one"}, {"a": b"\0"})
    disk.apply("rename", [path, path + b"b"], [])
    assert (left(), left(lambda: True)) == ({"a": b"\0\0one"}, {"ab": b"\0"})
