"""A disk that fails at one call, each in turn: what was acknowledged is there, reads go on, who waits misses nothing, the next start is well."""

import re
import subprocess
import threading

import pytest

from tests.e2e.test_catalog_durability import PATHS, Ledger, watch_until_killed
from tests.support.eventually import eventually
from tests.support.warm_catalog import Nursery, WarmCatalog

WAKES_S = 9.0  # shorter than their wait
CALLS = [
    ("pwrite64", "ENOSPC"), ("pwrite64", "EIO"), ("write", "ENOSPC"), ("fsync", "EIO"), ("fdatasync", "EIO"),
    ("ftruncate", "EIO"), ("rename", "EIO"), ("unlink", "EIO"),
]  # fmt: skip
LEAST = {"pwrite64": 60, "fsync": 3, "fdatasync": 6, "rename": 2}
"""So many calls of each there are at least in one run: fewer, and the injection no longer is where it was."""


class Traced:
    """A catalog whose Nth call of one kind fails, in each of its threads."""

    def __init__(self, catalog, call, error, number):
        self.catalog = catalog
        self.trace = catalog.data.with_name("trace")
        inject = f"inject={call}:error={error}:when={number}"
        argv = ["strace", "-f", "-o", str(self.trace), "-e", f"trace={call}", "-e", inject, "-p", str(catalog.pid)]
        self.process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        assert "attached" in self.process.stderr.readline()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.wait()
        self.process.stderr.close()

    @property
    def has_failed(self):
        return "(INJECTED)" in self.trace.read_text()


def assert_clean_end(catalog):
    """It did not start, and said why in a sentence."""
    assert catalog.end() == 1
    assert "Traceback" not in catalog.log(), catalog.log()
    assert re.search(r"^(nodeagent|error): .+", catalog.log().splitlines()[-1], re.IGNORECASE), catalog.log()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("call", "error"), CALLS)
def test_each_call_that_fails_in_turn_loses_nothing(tmp_path, call, error):
    """From an empty directory on: the first start's calls are among them."""
    number = 1
    with Nursery() as nursery:
        while fails_once(nursery, tmp_path / str(number), call, error, number):
            number += 1
    assert number > LEAST.get(call, 1)


def fails_once(nursery, where, call, error, number):
    where.mkdir()
    ledger, catalog = Ledger(), WarmCatalog(nursery, where / "data").fork()
    with Traced(catalog, call, error, number) as traced:
        try:
            if catalog.go():
                use_and_check(catalog, ledger)
            else:
                assert_clean_end(catalog)
        finally:
            catalog.end()
    again = WarmCatalog(nursery, where / "data").fork()
    try:
        assert again.go(), again.log()
        client = again.client()
        ledger.check(client)
        assert client.put("/v1/kv/more", b"x").status == 200
        assert client.get("/v1/connect/ca/roots").status == 200
    finally:
        again.end()
    return traced.has_failed


def use_and_check(catalog, ledger):
    """Beside one for each kind who waits for what is newer, until the catalog ends."""
    client, waiting = catalog.client(), Ledger()
    threads = [threading.Thread(target=watch_until_killed, args=(waiting, client, kind)) for kind in PATHS]
    for thread in threads:
        thread.start()
    try:
        write_and_check(client, ledger)
        eventually(lambda: waiting.fault or waiting.seen == ledger.seen, WAKES_S, "those who wait have seen it all")
        assert waiting.fault is None
    finally:
        catalog.end()
        for thread in threads:
            thread.join()


def write_and_check(client, ledger):
    answers = [client.put("/v1/catalog/register", {"Node": "host1", "Address": "10.0.0.1"})]
    for kind, number in [("kv", 1), ("entry", 2), ("service", 3), ("kv", 4), ("entry", 0), ("kv", 0), ("kv", 5)]:
        answers.append(ledger.write(client, kind, "w0", number))
        for each, path in PATHS.items():
            ledger.see(each, client.get(path))
    for answer in answers:
        is_host_missing = answer.status == 400 and "is not registered" in answer.text
        assert answer.status == 200 or is_host_missing or (answer.status == 500 and answer.text.startswith("not stored: ")), answer
