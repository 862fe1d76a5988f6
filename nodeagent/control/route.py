"""Why a request goes where it goes: `decide/explain_request`, asked with the snapshot of now and with what workers share."""

import time
from collections.abc import Mapping

from aiohttp import web

from nodeagent.control.report import RouteAnswer
from nodeagent.control.view import View
from nodeagent.decide.asked_request import asked_request
from nodeagent.decide.explain_request import Leased, explain_request, with_shared
from nodeagent.tables import suggest


def answer_route(view: View, asked: Mapping[str, str]) -> RouteAnswer:
    """The answer to GET /v1/route: `from`, `to`, and of the request `method`, `path`, `headers` (a line for each).

    Raises:
        HTTPException: nothing is known yet, or nothing of the kind; says what is.
    """
    snapshot = view.publisher.snapshot
    if snapshot is None:
        raise web.HTTPServiceUnavailable(text="this agent knows no mesh yet: what it captures is refused; see: nodeagent status")
    destination = asked.get("to", "")
    if not destination:
        raise web.HTTPBadRequest(text="to (with from, method, path, headers) must be given")
    if destination not in snapshot.services:
        raise web.HTTPNotFound(text=f"no service {destination[:80]!r} is known here{suggest(destination, snapshot.services)}")
    try:
        head = asked_request(asked.get("method", "GET"), asked.get("path", "/"), filter(None, asked.get("headers", "").split("\n")))
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    source, shares = asked.get("from", ""), view.workers.shares
    leased = [Leased(row.service, row.subset, row.kind, row.limit, row.held, row.wanted) for row in shares.used(source)]
    told = explain_request(snapshot, source, destination, head)
    return RouteAnswer(explanation=with_shared(told, shares.ejected(source, time.monotonic()), leased))
