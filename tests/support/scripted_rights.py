"""A scripted catalog that is a Consul 1.8 with default deny: it leaves out what the token may not read, and refuses what 1.8.7 refuses."""

import base64
import json
from typing import Any

from aiohttp import web

from nodeagent.catalog.legacy_intentions import LEGACY_INTENTIONS
from tests.support.scripted_catalog import INTENTIONS, KEPT, SELF, ScriptedCatalog

MATCH = "/v1/connect/intentions/match"
CONSUL = {"Config": {"NodeName": "host1", "Datacenter": "dc1", "NodeID": "3a9b826f-5a67-d7a3-eac5-20a4924b64bc", "Version": "1.8.7"}}


def legacy_row(text: str) -> dict[str, str]:
    """`shop -> web allow` as a row."""
    source, _, destination, action = text.split()
    return {"SourceName": source, "DestinationName": destination, "Action": action, "SourceNS": "default", "DestinationNS": "default"}


def unknown_kind(_request: web.Request) -> web.Response:
    """What 1.8 says of service-intentions."""
    return web.Response(status=500, text="invalid config entry kind: service-intentions")


def refuse(_request: web.Request) -> web.Response:
    """What a right is missing for."""
    return web.Response(status=403, text="Permission denied")


def kept_row(name: str, said: Any) -> dict[str, str]:
    """A row of the KV store with an entry of service-intentions."""
    return {"Key": f"{KEPT.removeprefix('/v1/kv/')}{name}", "Value": base64.b64encode(json.dumps(said).encode()).decode()}


class ScriptedRights:
    """The rows that there are, and of whom the token may read them. Use `put` and `may_read`; who waits is answered.

    And the entries in the KV store, with `keep` and `may_read_keys`.
    """

    def __init__(self, peer: ScriptedCatalog, *rows: str) -> None:
        self._peer = peer
        self._rows = [legacy_row(row) for row in rows]
        self._names: set[str] | None = None
        self._kept: dict[str, Any] = {}
        self._may_read_keys = True
        peer.set(SELF, CONSUL)
        peer.scripts |= {INTENTIONS: unknown_kind, MATCH: self._match}
        self._show()

    def put(self, *rows: str) -> None:
        """Makes these all rows."""
        self._rows = [legacy_row(row) for row in rows]
        self._show()

    def may_read(self, *names: str) -> None:
        """The intentions of these alone."""
        self._names = set(names)
        self._show()

    def may_read_all(self, *, is_told: bool = True) -> None:
        """`service_prefix ""`. is_told: who waits is answered, as where something was written, too."""
        self._names = None
        if is_told:
            self._show()

    def keep(self, name: str, *sources: str, **said: Any) -> None:
        """Makes this the entry of a destination in the KV store: `shop allow`; with nothing at all it goes."""
        listed = [dict(zip(("Name", "Action"), each.split(), strict=True)) for each in sources]
        self._kept[name] = {"Sources": listed, **said} if sources or said else None
        self._show_keys()

    def may_read_keys(self, *, may: bool, is_told: bool = True) -> None:
        """`key_prefix "nodeagent/config/"`: without it a list is empty, and a single key refused. is_told: as of `may_read_all`."""
        self._may_read_keys = may
        if is_told:
            self._show_keys()
        else:
            self._peer.values[KEPT] = self._peer.values[KEPT][0], self._kept_rows()

    def _show_keys(self) -> None:
        self._peer.set(KEPT, self._kept_rows())
        for name in {*self._kept, "*", "web", "db"}:
            self._peer.set(KEPT + name, [kept_row(name, self._kept[name])] if self._kept.get(name) is not None else None)
            self._peer.scripts[KEPT + name] = lambda request: None if self._may_read_keys else refuse(request)

    def _kept_rows(self) -> list[dict[str, str]] | None:
        rows = [kept_row(name, said) for name, said in self._kept.items() if said is not None]
        return rows if rows and self._may_read_keys else None

    def hide_service(self, name: str) -> None:
        """The right to read the service itself: its instances vanish, and so does its chain."""
        self._peer.scripts[f"/v1/discovery-chain/{name}"] = refuse

    def show_service(self, name: str) -> None:
        self._peer.scripts[f"/v1/discovery-chain/{name}"] = lambda _: web.json_response({"Chain": {}})

    def _may(self, name: str) -> bool:
        """`*` is everybody's who may read anything."""
        return self._names is None or name in self._names or (name == "*" and bool(self._names))

    def _show(self) -> None:
        rows = [row for row in self._rows if self._may(row["SourceName"]) or self._may(row["DestinationName"])]
        self._peer.set(LEGACY_INTENTIONS, rows)

    def _match(self, request: web.Request) -> web.Response:
        name = request.query["name"]
        if not self._may(name):
            return refuse(request)
        return web.json_response({name: [row for row in self._rows if row["DestinationName"] in (name, "*")] or None})
