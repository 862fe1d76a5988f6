"""A catalog without its HTTP: handlers are called with real requests' content over a real database."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec

from nodeagent.embedded.access import Caller
from nodeagent.embedded.asking import Answer, Ask, Server, Watch, find
from nodeagent.embedded.datadir import DATABASE, MANAGEMENT_TOKEN, prepare_data
from nodeagent.embedded.store import Store

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROOT = Caller("root", "management")
HOST1 = Caller("one", "node", "host1", ("web", "shop"))
HOST2 = Caller("two", "node", "host2", ("db",))
LAB = Caller("lab", "node", "host1", ("*",))


class Desk:
    """One catalog in a temporary directory; every call runs a loop of its own."""

    def __init__(self, directory):
        self.directory = directory
        self.realm = prepare_data(directory, "dc1", NOW)
        self.store = Store(directory / DATABASE)
        self.server = Server(self.store, self.realm, "127.0.0.1:8500", timedelta(hours=24), lambda: NOW, lambda: 0.0)
        self.secret = (directory / MANAGEMENT_TOKEN).read_text().strip()
        for caller in (HOST1, HOST2, LAB):
            self.add(caller)

    def add(self, caller):
        """Stores a token of this accessor; what it may claim is looked up there."""

        def insert(change):
            services, addresses = (msgspec.json.encode(names).decode() for names in (caller.services, caller.addresses))
            change.connection.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, '', 0, 1, ?, '[]')",
                (caller.accessor, caller.accessor.encode(), caller.kind, caller.node, services, addresses),
            )
            return caller

        return asyncio.run(self.store.write(insert))

    def ask(self, caller=ROOT, body=b"", query=None, **path):
        text = body if isinstance(body, bytes) else msgspec.json.encode(body)

        async def read():
            return text

        return Ask(self.server, caller, self.secret, query or {}, path, read)

    def call(self, handler, caller=ROOT, body=b"", query=None, **path):
        """What the handler answers, as a client would decode it."""
        return asyncio.run(self.acall(handler, caller, body, query, **path))

    async def acall(self, handler, caller=ROOT, body=b"", query=None, **path):
        ask = self.ask(caller, body, query, **path)
        result = await handler(ask)
        answer = (await find(ask, result)).answer if isinstance(result, Watch) else result
        assert isinstance(answer, Answer)
        if isinstance(answer.body, bytes):
            return answer.body if answer.status == 200 else answer.status
        return msgspec.json.decode(msgspec.json.encode(answer.body))

    def index(self, handler, caller=ROOT, query=None, **path):
        async def read():
            ask = self.ask(caller, b"", query, **path)
            return (await find(ask, await handler(ask))).index

        return asyncio.run(read())

    def close(self):
        asyncio.run(self.store.close())
