"""What every request goes through: token, parameters, handler, answer; refusals as one sentence each."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web

from nodeagent import limits
from nodeagent.catalog.state import RESTORED
from nodeagent.embedded.access import NOBODY, Caller
from nodeagent.embedded.asking import Answer, Ask, Found, Server, Watch, authenticate, encoded, find
from nodeagent.embedded.body import DEFAULT_NAMES
from nodeagent.embedded.refusal import BadRequest, Forbidden, Missing, Refusal, TooLarge
from nodeagent.embedded.registration import check_datacenter
from nodeagent.embedded.routes import ALWAYS, REPEATABLE, ROUTES, Route
from nodeagent.observe.log import open_log

_SAFE = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Server": "nodeagent"}
"""Values of the KV store are anybody's bytes, tokens must not rest in a cache, and versions are nobody's business."""


def build_runner(server: Server) -> web.AppRunner:
    """The catalog, ready to be given a socket."""
    return web.AppRunner(
        build_app(server),
        access_log=None,
        handle_signals=False,
        handler_cancellation=True,  # a client that goes away gives its blocking query's place back
        keepalive_timeout=limits.CATALOG_IDLE_S,
        shutdown_timeout=limits.CATALOG_STOP_S,
    )


def build_app(server: Server) -> web.Application:
    """The catalog as an aiohttp application."""
    app = web.Application(client_max_size=limits.ENTRY_BYTES)
    for route in ROUTES:
        app.router.add_route(route.method, route.path, _responder(server, route))
    app.router.add_route("*", "/{path:.*}", _say_missing)
    return app


def secret_of(headers: Mapping[str, str]) -> str:
    """The secret that a request carries; empty: none."""
    scheme, _, bearer = headers.get("Authorization", "").partition(" ")
    return headers.get("X-Consul-Token", "") or (bearer.strip() if scheme.lower() == "bearer" else "")


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding names it, and does not refuse it."""
    named = {name.strip(): value.replace(" ", "") for name, _, value in (part.partition(";") for part in header.lower().split(","))}
    return "gzip" in named and not re.fullmatch(r"q=0(\.0*)?", named["gzip"])


def check_query(pairs: list[tuple[str, str]], route: Route, datacenter: str, secret: str = "") -> dict[str, str]:
    """The parameters by name, the first where one stands twice; one that would be ignored is refused instead.

    A token is let by where it only says the header's once more, as py-consul does: refusing it would undo nothing.

    Raises:
        BadRequest: one stands twice, or names another datacenter or namespace.
        Missing: this catalog does not have it here.
    """
    query = dict(reversed(pairs))
    several = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if not set(several) <= set(REPEATABLE):
        raise BadRequest("a parameter stands twice in the query")
    if query.pop("token", secret) != secret:
        raise BadRequest("a token in a URL ends up in logs: send it as X-Consul-Token")
    for name in query:
        if name not in ALWAYS and name not in route.params:
            path = re.sub(r":[^{}]*}", "}", route.path)  # as the document writes it: how a part is matched is ours
            raise Missing(f"the parameter ?{name[:80]}= of {route.method} {path} is not implemented")
    _check_consistency(query)
    check_datacenter(query.get("dc", ""), datacenter)
    for name in ("ns", "partition"):
        if query.get(name, "") not in DEFAULT_NAMES:
            raise BadRequest(f"?{name}={query[name][:80]}: only the default one exists here")
    return query


def _check_consistency(query: Mapping[str, str]) -> None:
    """As in Consul; each alone changes nothing here."""
    other = next((name for name in ("stale", "cached") if name in query), None)
    if "consistent" in query and other is not None:
        raise BadRequest(f"?{other} and ?consistent exclude each other")


def _responder(server: Server, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def respond(request: web.Request) -> web.Response:
        caller = NOBODY
        try:
            secret = secret_of(request.headers)
            caller = NOBODY if route.is_open or (route.is_public and not secret) else authenticate(server, secret)
            if route.method != "GET" and route.is_paced:
                server.pace.take(caller.accessor, asyncio.get_running_loop().time())
            query = check_query(list(request.query.items()), route, server.realm.datacenter, secret)
            repeated = {name: tuple(request.query.getall(name)) for name in REPEATABLE if name in query}
            takes_gzip = accepts_gzip(request.headers.get("Accept-Encoding", ""))
            ask = Ask(server, caller, secret, query, request.match_info, _body_of(request), repeated, takes_gzip)
            return await _handled(ask, route)
        except Refusal as refusal:
            _note(refusal, caller, request)
            return _said(refusal.status, str(refusal))
        except web.HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - a client must never see a traceback, nor wait for an answer
            open_log().error("request_failed", path=request.path, method=request.method, exc_info=error)
            return _said(500, "the catalog failed at this request; its log says why")

    return respond


async def _handled(ask: Ask, route: Route) -> web.Response:
    result = await route.handler(ask)
    if isinstance(result, Watch):
        found = await find(ask, result)
        return _answered(found.answer, _index_headers(found), is_pretty=ask.is_pretty)
    return _answered(result, {}, is_pretty=ask.is_pretty)


def _answered(answer: Answer, headers: Mapping[str, str], *, is_pretty: bool) -> web.Response:
    body = encoded(answer.body, is_pretty=is_pretty)
    if isinstance(body, msgspec.Raw):
        kind = "application/json"
    else:
        kind = "application/octet-stream" if answer.status == 200 else "text/plain"
    encoding = {"Content-Encoding": answer.encoding} if answer.encoding else {}
    return web.Response(body=bytes(body), status=answer.status, content_type=kind, headers={**_SAFE, **encoding, **headers})


def _index_headers(found: Found) -> dict[str, str]:
    consuls = {"X-Consul-Index": str(found.index), "X-Consul-KnownLeader": "true", "X-Consul-LastContact": "0"}
    return consuls | {RESTORED: str(found.restored_by)}


def _body_of(request: web.Request) -> Callable[[], Awaitable[bytes]]:
    async def read() -> bytes:
        try:
            async with asyncio.timeout(limits.CATALOG_BODY_S):
                return await request.read()
        except TimeoutError:
            raise BadRequest(f"the body did not arrive within {limits.CATALOG_BODY_S:g} s") from None
        except web.HTTPRequestEntityTooLarge:
            raise TooLarge(f"the body is larger than {limits.ENTRY_BYTES} bytes") from None

    return read


def _note(refusal: Refusal, caller: Caller, request: web.Request) -> None:
    """A known host that asks for what is not its own is an alarm; strangers are not: they could fill the log."""
    if isinstance(refusal, Forbidden) and caller is not NOBODY:
        open_log().warning(
            "request_refused", accessor=caller.accessor, host=caller.node, path=request.path, error=str(refusal)
        )


def _said(status: int, sentence: str) -> web.Response:
    return web.Response(text=sentence, status=status, headers=_SAFE)


async def _say_missing(request: web.Request) -> web.Response:
    if not request.path.startswith("/v1/"):
        return _said(404, "the catalog's API is below /v1/")
    return _said(501, f"{request.method} {request.path[:200]} is not implemented by this catalog")
