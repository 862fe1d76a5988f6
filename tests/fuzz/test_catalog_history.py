"""Random histories of the embedded catalog beside a model of it: what is read is what was written, and who waits misses nothing."""

import asyncio
import os
import tempfile
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nodeagent.embedded import catalog_api, config_api, kv_api
from nodeagent.embedded.asking import find
from nodeagent.embedded.database import newest_index
from nodeagent.embedded.datadir import DATABASE
from nodeagent.embedded.store import Store
from tests.unit.nodeagent.embedded.desk import Desk

WOKEN_S = 10.0  # it takes a turn of the loop
KEYS = st.sampled_from(["a", "a/b", "a/c", "b"])
NODES = st.sampled_from(["host1", "host2"])
NAMES = st.sampled_from(["web", "db"])
IDS = st.sampled_from(["1", "2"])
CAS = st.sampled_from(["none", "new", "right", "stale"])
READS = {
    **{f"key {key}": (kv_api.read, {"key": key}, {}) for key in ("a", "a/b", "b")},
    **{f"keys {prefix}": (kv_api.read, {"key": prefix}, {"recurse": ""}) for prefix in ("", "a")},
    "nodes": (catalog_api.nodes, {}, {}),
    "names": (catalog_api.services, {}, {}),
    **{f"node {name}": (catalog_api.node, {"node": name}, {}) for name in ("host1", "host2")},
    **{f"instances {name}": (catalog_api.health, {"name": name}, {}) for name in ("web", "db")},
    "entries": (config_api.every, {"kind": "service-defaults"}, {}),
    **{f"entry {name}": (config_api.one, {"kind": "service-defaults", "name": name}, {}) for name in ("web", "db")},
}
SHOWN = {
    "key": lambda rows: (rows[0]["Value"], rows[0]["Flags"]),
    "keys": lambda rows: {row["Key"]: (row["Value"], row["Flags"]) for row in rows},
    "nodes": lambda rows: {row["Node"]: row["Address"] for row in rows},
    "names": set,
    "node": lambda row: row and (row["Node"]["Address"], {s["ID"]: (s["Service"], s["Port"]) for s in row["Services"].values()}),
    "instances": lambda rows: {
        (row["Node"]["Node"], row["Service"]["ID"]): (row["Node"]["Address"], row["Service"]["Port"]) for row in rows
    },
    "entries": lambda rows: {row["Name"]: row["Protocol"] for row in rows},
    "entry": lambda row: row["Protocol"],
}
"""An answer in the words of the model, by its kind."""
EXPECTED = {
    "key": lambda model, name: model.kv.get(name),
    "keys": lambda model, name: {key: value for key, value in model.kv.items() if key.startswith(name)},
    "nodes": lambda model, _: model.nodes,
    "names": lambda model, _: {service for service, _ in model.services.values()},
    "node": lambda model, name: (model.nodes[name], {i: row for (n, i), row in model.services.items() if n == name})
    if name in model.nodes
    else None,
    "instances": lambda model, name: {
        at: (model.nodes[at[0]], port) for at, (service, port) in model.services.items() if service == name
    },
    "entries": lambda model, _: model.entries,
    "entry": lambda model, name: model.entries.get(name),
}
"""What the model says of it."""


def decoded(body):
    """A body as a client has it."""
    return body if isinstance(body, bytes) else msgspec.json.decode(msgspec.json.encode(body))


class Watching:
    """Somebody who waits for a change of what it has seen."""

    def __init__(self, history, what):
        self.history, self.what = history, what
        self.index, self.seen = history.read(what)
        self.wait()

    def wait(self):
        self.task = self.history.loop.create_task(self.history.afind(self.what, {"index": str(self.index), "wait": "600s"}))

    def take(self):
        """What it is answered; then it waits again, as agents do."""
        index, seen = self.history.run(self.task)
        assert index >= self.index
        assert seen == self.seen or index > self.index
        self.index, self.seen = index, seen
        self.wait()

    async def end(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class History(RuleBasedStateMachine):
    """The catalog, the model of it, and those who wait."""

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.desk = Desk(Path(self.directory.name))
        self.loop = asyncio.new_event_loop()
        self.kv, self.nodes, self.services, self.entries = {}, {}, {}, {}
        self.watching, self.newest, self.last = [], 0, {}

    # --- the catalog

    def run(self, coroutine):
        async def bounded():
            async with asyncio.timeout(WOKEN_S):
                return await coroutine

        return self.loop.run_until_complete(bounded())

    async def afind(self, what, query):
        handler, path, always = READS[what]
        ask = self.desk.ask(query=always | query, **path)
        found = await find(ask, await handler(ask))
        return found.index, self.shown(what, found.answer)

    def read(self, what):
        index, seen = self.run(self.afind(what, {}))
        before, known = self.last.get(what, (0, None))
        assert index >= before, f"the index of {what} went back"
        assert index > before or seen == known, f"{what} changed, and its index did not: who waits misses it"
        self.last[what] = index, seen
        return index, seen

    def call(self, handler, body=b"", query=None, **path):
        return self.run(self.desk.acall(handler, body=body, query=query, **path))

    def shown(self, what, answer):
        kind = what.split(" ")[0]
        return SHOWN[kind](decoded(answer.body)) if answer.status == 200 else {"keys": {}}.get(kind)

    def expected(self, what):
        kind, _, name = what.partition(" ")
        return EXPECTED[kind](self, name)

    def cas_of(self, cas, handler, path, *, is_there):
        """The query for a compare-and-set, and whether it is to succeed."""
        if cas == "none":
            return {}, True
        if cas == "new":
            return {"cas": "0"}, not is_there
        ask = self.desk.ask(**path)
        answer = self.run(self._answer(handler, ask))
        body = decoded(answer.body)
        row = body[0] if isinstance(body, list) else body
        index = row["ModifyIndex"] if answer.status == 200 else 1
        return ({"cas": str(index)}, is_there) if cas == "right" else ({"cas": str(index + 1000)}, False)

    async def _answer(self, handler, ask):
        return (await find(ask, await handler(ask))).answer

    # --- what may happen

    @rule(key=KEYS, value=st.sampled_from([b"x", b"y"]), flags=st.sampled_from([0, 7]), cas=CAS)
    def put_key(self, key, value, flags, cas):
        query, wanted = self.cas_of(cas, kv_api.read, {"key": key}, is_there=key in self.kv)
        assert self.call(kv_api.put, value, {**query, "flags": str(flags)}, key=key) is wanted
        if wanted:
            self.kv[key] = ({b"x": "eA==", b"y": "eQ=="}[value], flags)

    @rule(key=KEYS, cas=CAS)
    def delete_key(self, key, cas):
        query, wanted = self.cas_of(cas, kv_api.read, {"key": key}, is_there=key in self.kv)
        wanted = wanted or key not in self.kv
        assert self.call(kv_api.delete, query=query, key=key) is wanted
        if wanted:
            self.kv.pop(key, None)

    @rule(prefix=st.sampled_from(["", "a", "a/"]))
    def delete_keys(self, prefix):
        assert self.call(kv_api.delete, query={"recurse": ""}, key=prefix) is True
        self.kv = {key: value for key, value in self.kv.items() if not key.startswith(prefix)}

    @rule(node=NODES, last=st.sampled_from([1, 2]))
    def register_node(self, node, last):
        address = f"10.0.0.{last}"
        assert self.call(catalog_api.register, {"Node": node, "Address": address}) is True
        self.nodes[node] = address

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), id_=IDS, name=NAMES, port=st.sampled_from([80, 81]))
    def register_service(self, data, id_, name, port):
        node = data.draw(st.sampled_from(sorted(self.nodes)))
        body = {"Node": node, "SkipNodeUpdate": True, "Service": {"Service": name, "ID": id_, "Port": port}}
        assert self.call(catalog_api.register, body) is True
        self.services[node, id_] = (name, port)

    @rule(node=NODES)
    def deregister_node(self, node):
        assert self.call(catalog_api.deregister, {"Node": node}) is True
        self.nodes.pop(node, None)
        self.services = {at: row for at, row in self.services.items() if at[0] != node}

    @rule(node=NODES, id_=IDS)
    def deregister_service(self, node, id_):
        assert self.call(catalog_api.deregister, {"Node": node, "ServiceID": id_}) is True
        self.services.pop((node, id_), None)

    @rule(name=NAMES, protocol=st.sampled_from(["tcp", "http"]), cas=CAS)
    def put_entry(self, name, protocol, cas):
        path = {"kind": "service-defaults", "name": name}
        query, wanted = self.cas_of(cas, config_api.one, path, is_there=name in self.entries)
        body = {"Kind": "service-defaults", "Name": name, "Protocol": protocol}
        assert self.call(config_api.put, body, query) is wanted
        if wanted:
            self.entries[name] = protocol

    @rule(name=NAMES, cas=CAS)
    def delete_entry(self, name, cas):
        path = {"kind": "service-defaults", "name": name}
        query, wanted = self.cas_of(cas, config_api.one, path, is_there=name in self.entries)
        wanted = wanted and (not query or name in self.entries)
        assert self.call(config_api.delete, query=query, **path) == (wanted if query else {})
        if wanted:
            self.entries.pop(name, None)

    @precondition(lambda self: len(self.watching) < 6)
    @rule(what=st.sampled_from(sorted(READS)))
    def watch(self, what):
        self.watching.append(Watching(self, what))

    @rule()
    def restart(self):
        """Those who waited ask again with what they had."""
        self.run(self._end_waiting())
        self.run(self.desk.store.close())
        self.desk.store = Store(self.desk.directory / DATABASE)
        object.__setattr__(self.desk.server, "store", self.desk.store)
        for each in self.watching:
            each.wait()

    # --- what always holds

    @invariant()
    def index_never_goes_back(self):
        newest = self.desk.store.read(newest_index)
        assert newest >= self.newest
        self.newest = newest

    @invariant()
    def what_is_read_is_what_was_written(self):
        for what in READS:
            assert self.read(what)[1] == self.expected(what), what

    @invariant()
    def who_waits_misses_nothing(self):
        """Whoever has seen something else is answered; no answer is older than what it had."""
        for each in self.watching:
            if each.seen != self.expected(each.what) or each.task.done():
                each.take()
                assert each.seen == self.expected(each.what)

    def teardown(self):
        self.run(self._end_waiting())
        self.run(self.desk.store.close())
        self.loop.close()
        self.directory.cleanup()

    async def _end_waiting(self):
        for each in self.watching:
            await each.end()


History.TestCase.settings = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")), stateful_step_count=40, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a history in which somebody waits in vain takes seconds to try
)  # fmt: skip
TestHistory = History.TestCase
