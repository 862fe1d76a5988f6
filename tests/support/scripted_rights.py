"""A scripted catalog that is a Consul 1.8 with default deny: it leaves out what the token may not read, and refuses what 1.8.7 refuses."""

from aiohttp import web

from nodeagent.catalog.legacy_intentions import LEGACY_INTENTIONS
from tests.support.scripted_catalog import INTENTIONS, SELF, ScriptedCatalog

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


class ScriptedRights:
    """The rows that there are, and of whom the token may read them. Use `put` and `may_read`; who waits is answered."""

    def __init__(self, peer: ScriptedCatalog, *rows: str) -> None:
        self._peer = peer
        self._rows = [legacy_row(row) for row in rows]
        self._names: set[str] | None = None
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
