"""What the embedded catalog has acknowledged outlives kills at random points; its index never goes back."""

import json
import os
import random
import threading
import time
from http.client import HTTPException

import pytest

from tests.support.warm_catalog import Nursery, WarmCatalog

KILLS = int(os.environ.get("CATALOG_KILLS", "200"))
WRITERS = 3
COUNTERS = 2
SPAN_S = 0.06  # within which a catalog is killed: a write takes one to ten milliseconds

PATHS = {"kv": "/v1/kv/w?recurse", "entry": "/v1/config/service-defaults", "service": "/v1/catalog/node-services/host1"}


def contents(kind, answer):
    """An answer as names with their values."""
    if answer.status == 404:
        return {}
    rows = answer.json
    match kind:
        case "kv":
            return {row["Key"]: int(row["Flags"]) for row in rows}
        case "entry":
            return {row["Name"]: int(row["Meta"]["n"]) for row in rows if row["Name"] != "count"}
        case _:
            return {row["ID"]: row["Port"] for row in (rows and rows["Services"]) or ()}


class Ledger:
    """What was acknowledged, what may have been stored, what was seen at which index. Each name is written by one thread."""

    def __init__(self):
        self.stored = {kind: {} for kind in PATHS}
        self.maybe = {}
        self.seen = dict.fromkeys(PATHS, (0, {}))
        self.acknowledged = 0
        self.fault = None

    def write(self, client, kind, name, number):
        """The answer to one change; number 0 removes."""
        self.maybe[kind, name] = number
        answer = send(client, kind, name, number)
        if answer.status == 200:
            self.settle(kind, name, number)
            self.acknowledged += 1
        return answer

    def settle(self, kind, name, number):
        self.stored[kind].pop(name, None)
        if number:
            self.stored[kind][name] = number
        self.maybe.pop((kind, name), None)

    def see(self, kind, answer):
        """Whoever had seen something else would have been answered by a blocking query."""
        before, known = self.seen[kind]
        found = contents(kind, answer)
        assert answer.index >= before, f"the index of {kind} went back from {before} to {answer.index}"
        assert answer.index > before or found == known, f"{kind} changed at index {before}, and nobody is told"
        self.seen[kind] = answer.index, found
        return found

    def check(self, client):
        """Of each name there is what was acknowledged last, or what was on its way."""
        for kind, path in PATHS.items():
            found = self.see(kind, client.get(path))
            for name in {*self.stored[kind], *found, *(n for k, n in self.maybe if k == kind)}:
                last = self.stored[kind].get(name, 0)
                assert found.get(name, 0) in (last, self.maybe.get((kind, name), last)), f"{kind} {name}"
                self.settle(kind, name, found.get(name, 0))


class Count:
    """A number that several clients raise by one at a time, each with the index that it read: an entry's, or a key's flags."""

    def __init__(self, kind):
        self.kind = kind
        self.acknowledged = 0
        self.unanswered = 0

    def read(self, client):
        """The number and its index; 0: there is none yet."""
        answer = client.get("/v1/kv/count" if self.kind == "kv" else "/v1/config/service-defaults/count")
        if answer.status == 404:
            return 0, 0
        row = answer.json[0] if self.kind == "kv" else answer.json
        return int(row["Flags"] if self.kind == "kv" else row["Meta"]["n"]), row["ModifyIndex"]

    def raise_by_one(self, client):
        number, index = self.read(client)
        with _COUNTING:
            self.unanswered += 1
        if self.kind == "kv":
            answer = client.put(f"/v1/kv/count?cas={index}&flags={number + 1}", b"")
        else:
            answer = client.put(f"/v1/config?cas={index}", {"Kind": "service-defaults", "Name": "count", "Meta": {"n": str(number + 1)}})
        with _COUNTING:
            self.unanswered -= 1
            self.acknowledged += answer.json is True

    def check(self, client):
        """Each step that was acknowledged was made once; of those without an answer any."""
        number, _ = self.read(client)
        assert self.acknowledged <= number <= self.acknowledged + self.unanswered, self.kind
        self.acknowledged, self.unanswered = number, 0


_COUNTING = threading.Lock()


def count_until_killed(counts, client):
    try:
        while True:
            for count in counts:
                count.raise_by_one(client)
    except (OSError, HTTPException, ValueError):
        return


def send(client, kind, name, number):
    """One change over HTTP."""
    if kind == "kv":
        return client.put(f"/v1/kv/{name}?flags={number}", b"x" * 300) if number else client.delete(f"/v1/kv/{name}")
    if kind == "entry":
        body = {"Kind": "service-defaults", "Name": name, "Meta": {"n": str(number)}}
        return client.put("/v1/config", body) if number else client.delete(f"/v1/config/service-defaults/{name}")
    if not number:
        return client.put("/v1/catalog/deregister", {"Node": "host1", "ServiceID": name})
    service = {"Service": "web", "ID": name, "Port": number}
    return client.put("/v1/catalog/register", {"Node": "host1", "SkipNodeUpdate": True, "Service": service})


def write_until_killed(ledger, client, writer, draw, begun):
    """Each of the kinds in turn, sometimes a removal."""
    try:
        while True:
            kind = draw.choice(list(PATHS))
            number = draw.randrange(1, 60_000) if draw.random() < 0.8 else 0
            begun.set()
            ledger.write(client, kind, f"w{writer}", number)
    except (OSError, HTTPException, ValueError):  # it is killed under us, also in the midst of an answer
        return


def watch_until_killed(ledger, client, kind):
    """What an agent does: with the index of each answer it asks for what is newer."""
    try:
        while True:
            index = ledger.seen[kind][0]
            joint = "&" if "?" in PATHS[kind] else "?"
            ledger.see(kind, client.get(f"{PATHS[kind]}{joint}index={index}&wait=10s"))
    except AssertionError as fault:
        ledger.fault = fault
    except (OSError, HTTPException, ValueError):
        return


@pytest.mark.slow
@pytest.mark.timeout(60 + 3 * KILLS)
def test_kills_at_random_points_lose_nothing_that_was_acknowledged(tmp_path):
    """CATALOG_KILLS=2000 looks longer, and CATALOG_SEED at others."""
    draw, ledger, counts = random.Random(os.environ.get("CATALOG_SEED", "1")), Ledger(), [Count("kv"), Count("entry")]
    with Nursery() as nursery:
        for number in range(KILLS + 1):
            catalog = WarmCatalog(nursery, tmp_path / "data").fork()
            try:
                assert catalog.go(), catalog.log()
                client = catalog.client()
                if not number:
                    client.ok("PUT", "/v1/catalog/register", {"Node": "host1", "Address": "10.0.0.1"})
                ledger.check(client)
                for count in counts:
                    count.check(client)
                if number < KILLS:
                    run_until_killed(catalog, ledger, counts, draw)
            finally:
                catalog.end()
            assert ledger.fault is None
    assert ledger.acknowledged > KILLS
    assert min(count.acknowledged for count in counts) > KILLS / 2


def run_until_killed(catalog, ledger, counts, draw):
    begun, client = threading.Event(), catalog.client()
    seeds = [random.Random(draw.random()) for _ in range(WRITERS)]
    threads = [threading.Thread(target=write_until_killed, args=(ledger, client, n, seeds[n], begun)) for n in range(WRITERS)]
    threads += [threading.Thread(target=watch_until_killed, args=(ledger, client, kind)) for kind in PATHS]
    threads += [threading.Thread(target=count_until_killed, args=(counts, client)) for _ in range(COUNTERS)]
    for thread in threads:
        thread.start()
    begun.wait(30)
    time.sleep(draw.uniform(0, SPAN_S))
    os.kill(catalog.pid, 9)
    for thread in threads:
        thread.join()


def test_the_ledger_notices_what_it_is_for():
    """A write that is lost, an index that goes back, a change that nobody is told of."""

    class Said:
        status = 200

        def __init__(self, index, *keys):
            self.index, self.json = index, [{"Key": key, "Flags": 5} for key in keys]

    ledger = Ledger()
    ledger.settle("kv", "w0", 5)
    assert ledger.see("kv", Said(7, "w0")) == {"w0": 5}
    with pytest.raises(AssertionError, match="went back"):
        ledger.see("kv", Said(6, "w0"))
    with pytest.raises(AssertionError, match="nobody is told"):
        ledger.see("kv", Said(7))

    class Forgetful:
        def get(self, path):
            return Said(9)

    ledger.stored = {"kv": {"w0": 5}, "entry": {}, "service": {}}
    with pytest.raises(AssertionError, match="kv w0"):
        ledger.check(Forgetful())
    assert json.dumps(ledger.stored["kv"]) == '{"w0": 5}'
