"""A catalog of config entries and keys in a variable, which answers as Consul does: indexes, cas, kinds that it has not."""

import base64
import json
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote

from nodeagent.cli.catalog_api import Client
from nodeagent.config import CatalogTable
from nodeagent.errors import CatalogError, NotInCatalog

OF_1_8 = ("service-defaults", "proxy-defaults", "service-router", "service-splitter", "service-resolver")
ALL = (*OF_1_8, "service-intentions", "mesh", "jwt-provider")


class Shelf(Client):
    """`before` is called ahead of each write, with method and path: it may raise, or be somebody who is faster."""

    def __init__(self, *entries: dict, kinds: tuple[str, ...] = ALL, services: tuple[str, ...] = ("web", "api", "shop")) -> None:
        super().__init__(CatalogTable("http://127.0.0.1:1"), "")
        self.index, self.kinds, self.names = 10, kinds, services
        self.entries: dict[tuple[str, str], dict] = {}
        self.values: dict[str, tuple[bytes, int]] = {}
        self.asked: list[tuple[str, str, dict]] = []
        self.before: Callable[[str, str], None] = lambda _method, _path: None
        self.after_token = "acc-1"
        self.rows: list[dict[str, str]] = []
        """Of intentions, where it has no entries for them."""
        self.hidden: tuple[str, ...] | None = None
        """Of what the token may not read anything; None: that is not told."""
        for entry in entries:
            self.put(entry)

    def put(self, entry: dict) -> None:
        """As somebody else does."""
        self.index += 1
        self.entries[entry["Kind"], entry["Name"]] = {**entry, "CreateIndex": 1, "ModifyIndex": self.index}

    def ask(self, method: str, path: str, body: object = None, **query: str) -> object:
        if path == "/v1/internal/acl/authorize":
            return self._rights(body)
        self.asked.append((method, path, query))
        if method != "GET":
            self.before(method, path)
        if path == "/v1/catalog/services":
            return {name: [] for name in self.names}
        if path == "/v1/acl/token/self":
            return {"AccessorID": self.after_token}
        if path == "/v1/connect/intentions":
            return self.rows
        if path.startswith("/v1/config"):
            return self._config(method, path.removeprefix("/v1/config").strip("/"), body, query)
        return self._kv(method, unquote(path.removeprefix("/v1/kv/").partition("?")[0]), body, {**query, **dict(parse_qsl(path.partition("?")[2]))})

    def written(self, *, trails: bool = False) -> list[str]:
        """What was written, in order; trails only where they are wanted."""
        return [f"{method} {path}" for method, path, _ in self.asked if method != "GET" and (trails or "/nodeagent/audit/" not in path)]

    def _rights(self, questions: object) -> object:
        if self.hidden is None:
            raise CatalogError("the catalog answered 501 to POST /v1/internal/acl/authorize: it is not served")
        assert isinstance(questions, list)
        return [{**each, "Allow": each["Resource"] not in self.hidden} for each in questions]

    def _config(self, method: str, rest: str, body: object, query: dict) -> object:
        if method == "PUT":
            assert isinstance(body, dict)
            key, known = (body["Kind"], body["Name"]), self.entries.get((body["Kind"], body["Name"]))
            if key[0] not in self.kinds:
                raise CatalogError(f"the catalog answered 400 to PUT /v1/config: invalid config entry kind: {key[0]}")
            if int(query["cas"]) != (known["ModifyIndex"] if known else 0):
                return False
            self.put(json.loads(json.dumps(body)))
            return True
        kind, _, name = rest.partition("/")
        if kind not in self.kinds:
            raise CatalogError(f"the catalog answered 400 to {method} /v1/config/{kind}: invalid config entry kind: {kind}")
        if not name:
            return [entry for (each, _), entry in sorted(self.entries.items()) if each == kind]
        known = self.entries.get((kind, unquote(name)))
        if known is None:
            raise NotInCatalog(rest)
        if method == "DELETE":
            if self.kinds != OF_1_8 and int(query["cas"]) != known["ModifyIndex"]:
                return False
            del self.entries[kind, unquote(name)]
            return {} if self.kinds == OF_1_8 else True  # 1.8 knows no cas there
        return known

    def _kv(self, method: str, key: str, body: object, query: dict) -> object:
        index = self.values[key][1] if key in self.values else 0
        if method != "GET":
            if int(query.get("cas", index)) != index:
                return False
            self.index += 1
            if method == "PUT":
                self.values[key] = json.dumps(body).encode(), self.index
            else:
                self.values.pop(key, None)
            return True
        found = sorted(name for name in self.values if name.startswith(key) and ("recurse" in query or "keys" in query or name == key))
        if not found:
            raise NotInCatalog(key)
        if "keys" in query:
            return found
        return [
            {"Key": name, "Value": base64.b64encode(self.values[name][0]).decode(), "ModifyIndex": self.values[name][1]} for name in found
        ]
