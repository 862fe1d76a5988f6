"""The admin API on its Unix socket, and Prometheus' page on loopback: typed, versioned; who may look may not change."""

import asyncio
import os
import re
import socket
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from aiohttp import web

from nodeagent import limits
from nodeagent.config import AdminTable
from nodeagent.control.door import Door
from nodeagent.control.enforce import Enforcer
from nodeagent.control.report import ConnectionsAnswer, ErrorAnswer, SwitchMode
from nodeagent.control.rights import Handler, Rights, caller_of, read_caller, rights_at, writers_only
from nodeagent.control.route import answer_route
from nodeagent.control.view import View
from nodeagent.control.why import answer_why
from nodeagent.control.workers import Workers
from nodeagent.model.address import parse_address
from nodeagent.model.service import Mode
from nodeagent.observe.log import open_log
from nodeagent.observe.metrics import Metrics
from nodeagent.observe.record import ClosedRing, concerns

_MODE = 0o660
_TRUE, _FALSE = ("1", "true"), ("0", "false")
_PARAMETERS = {
    "/v1/connections": ("closed", "limit", "service"),
    "/v1/enforce": ("mode", "service", "since"),
    "/v1/route": ("from", "to", "method", "path", "headers"),
    "/v1/why": ("id", "from", "to", "port", "address"),
}
"""What may be asked; elsewhere nothing."""

Body = TypeVar("Body", bound=msgspec.Struct)

_log = open_log()


def build_api(view: View, enforcer: Enforcer, metrics: Metrics, rights: Rights) -> web.Application:
    """The application behind the admin socket."""

    async def connections(request: web.Request) -> web.Response:
        return _json(await list_connections(view.workers, view.ledger.closed, request.query))

    async def switch(request: web.Request) -> web.Response:
        wish = _decode(await request.read(), SwitchMode)
        return _json(enforcer.switch(wish, f"uid {caller_of(request).uid}"))

    async def enforce(request: web.Request) -> web.Response:
        asked = request.query
        return _json(await enforcer.check(_mode_in(asked.get("mode", "")), asked.get("service", ""), _age_in(asked.get("since", ""))))

    async def why(request: web.Request) -> web.Response:
        return _json(await answer_why(view, request.query))

    async def route(request: web.Request) -> web.Response:
        return _json(answer_route(view, request.query))

    app = _application(rights)
    app.router.add_get("/v1/why", why)
    app.router.add_get("/v1/route", route)
    app.router.add_get("/v1/modes", _telling(enforcer.modes))
    app.router.add_post("/v1/modes", switch)
    app.router.add_get("/v1/enforce", enforce)
    app.router.add_get("/v1/status", _telling(view.status))
    app.router.add_get("/v1/services", _telling(view.services))
    app.router.add_get("/v1/certs", _telling(view.certs))
    app.router.add_get("/v1/connections", connections)
    app.router.add_get("/metrics", _page(metrics, view))
    return app


def build_metrics(view: View, metrics: Metrics) -> web.Application:
    """The application behind the metrics port: nothing but the metrics."""
    app = _application()
    app.router.add_get("/metrics", _page(metrics, view))
    return app


async def serve_api(settings: AdminTable, view: View, enforcer: Enforcer, metrics: Metrics) -> None:
    """Answers at the admin socket until it is cancelled."""
    listener, gid = bind_socket(Path(settings.socket))
    rights = rights_at(gid, settings.write_group)
    api = build_api(view, enforcer, metrics, rights)
    await Door(listener, api, lambda sock: rights.why_refused(read_caller(sock)), settings.socket).run()


async def serve_metrics(address: str, view: View, metrics: Metrics) -> None:
    """Answers Prometheus until it is cancelled."""
    ip, port = parse_address(address)
    family, backlog = socket.AF_INET6 if ":" in ip else socket.AF_INET, limits.ACCEPT_BACKLOG
    listener = socket.create_server((ip, port), family=family, backlog=backlog, dualstack_ipv6=family == socket.AF_INET6)
    await Door(listener, build_metrics(view, metrics), lambda _sock: "", address).run()


def bind_socket(path: Path) -> tuple[socket.socket, int]:
    """A socket listening at `path`, and the group whose members may talk to it.

    What an earlier process left there is replaced; anything that is not a socket is not.
    """
    if path.is_symlink() or (path.exists() and not stat.S_ISSOCK(path.lstat().st_mode)):
        raise FileExistsError(f"{path} is not a socket; remove it or set admin.socket")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~_MODE)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(limits.ACCEPT_BACKLOG)
    return listener, path.lstat().st_gid


async def list_connections(workers: Workers, closed: ClosedRing, query: Mapping[str, str]) -> ConnectionsAnswer:
    """The rows that a query asks for, newest first.

    Raises:
        HTTPBadRequest: the query makes no sense.
    """
    text, closed_, service = query.get("limit", str(limits.API_ROWS)), query.get("closed", "0"), query.get("service", "")
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= limits.API_ROWS_MAX:
        raise web.HTTPBadRequest(text=f"limit: {text[:20]!r} is not 1 to {limits.API_ROWS_MAX}")
    if closed_ not in _TRUE + _FALSE:
        raise web.HTTPBadRequest(text=f"closed: {closed_[:20]!r} is neither 1 nor 0")
    limit = int(text)
    if closed_ in _TRUE:
        rows, total = closed.newest(limit, service)
        return ConnectionsAnswer(connections=rows, total=total)
    rows, total, unanswered = await workers.open_connections(limits.API_ROWS_MAX if service else limit)
    found = sorted((row for row in rows if concerns(row, service)), key=lambda row: -row.opened_at)
    return ConnectionsAnswer(connections=found[:limit], total=len(found) if service else total, unanswered=unanswered)


def _check_query(request: web.Request) -> None:
    """Nothing, if it asks in one way for what can be asked there: what would be passed over could be what was meant.

    Raises:
        HTTPBadRequest: something is not known there, stands there twice, or is empty.
    """
    query, known = request.query, _PARAMETERS.get(request.path, ())
    for name in query:
        shown = repr(name[:40])
        if name not in known:
            raise web.HTTPBadRequest(text=f"{shown}: not known here; known here: {', '.join(known) or 'none'}")
        if len(query.getall(name)) > 1:
            raise web.HTTPBadRequest(text=f"{shown}: stands there more than once")
        if not query[name]:
            raise web.HTTPBadRequest(text=f"{shown}: is empty; leave it out")


def _mode_in(text: str) -> Mode | Literal["file", ""]:
    """The mode in a query; `file`: the configuration file's; empty: none was given."""
    try:
        wish: Mode | Literal["file", ""] = msgspec.convert(text, Mode | Literal["file", ""])
    except msgspec.ValidationError as error:
        raise web.HTTPBadRequest(text=f"{text!r} is no mode: observe, permissive, strict, or file") from error
    return wish


def _age_in(text: str) -> float:
    """The seconds in a query; all that are kept, where none are given."""
    if text and not (re.fullmatch(r"[0-9]{1,9}", text) and 1 <= int(text) <= limits.FLOW_AGE_S):
        raise web.HTTPBadRequest(text=f"since: {text[:20]!r} is not 1 to {limits.FLOW_AGE_S:.0f} seconds")
    return float(text or limits.FLOW_AGE_S)


def _decode(body: bytes, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise web.HTTPBadRequest(text=f"the body is not what belongs here: {error}") from error


def _application(rights: Rights | None = None) -> web.Application:
    """Without rights nobody may change anything."""
    return web.Application(client_max_size=limits.API_BODY_BYTES, middlewares=[_guard, writers_only(rights)])


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure as JSON of ours."""
    try:
        is_known = request.match_info.http_exception is None
        if is_known and request.path != "/metrics":  # Prometheus may ask all its targets with the same parameters
            _check_query(request)
        async with asyncio.timeout(limits.API_CONNECTION_S):
            return await handler(request)
    except web.HTTPException as error:
        own = f"{error.status}: {error.reason}"
        text = f"nothing is at {request.path[:80]!r} for {request.method}" if error.text == own else error.text
        return _json(ErrorAnswer(error=f"{error.status} {error.reason}: {text}"), error.status)
    except Exception as error:  # noqa: BLE001 - a defect in a view is an answer of 500, not the end of control
        _log.error("admin_request_failed", path=request.path, exc_info=True)
        return _json(ErrorAnswer(error=f"500: {type(error).__name__}; the agent's log says more"), 500)


def _telling(tell: Callable[[], msgspec.Struct]) -> Handler:
    """What answers without being asked anything."""

    async def telling(_request: web.Request) -> web.Response:
        return _json(tell())

    return telling


def _page(metrics: Metrics, view: View) -> Handler:
    async def page(_request: web.Request) -> web.Response:
        metrics.set("nodeagent_catalog_connected", view.follower.lost_since is None)
        metrics.set("nodeagent_held_back", len(view.follower.alarms()))
        metrics.set("nodeagent_snapshot_age_seconds", view.age_s)
        view.ledger.count_lost_lines()
        return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    return page


def _json(answer: msgspec.Struct, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type="application/json")
