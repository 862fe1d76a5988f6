"""What a token may do, asked of a scripted Consul."""

import pytest
from aiohttp import web

from nodeagent.config import CatalogTable
from nodeagent.control.consul import Catalog
from nodeagent.control.token_rights import AUTHORIZE, TokenRights
from nodeagent.errors import CatalogError
from tests.support.authorized import Authorized
from tests.support.loop import run
from tests.support.scripted_catalog import ScriptedCatalog


def with_rights(script) -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer, Catalog(CatalogTable(peer.address, token_file=""), lambda: 1000.0) as catalog:
            await script(peer, TokenRights(catalog))

    run(scene)


def test_what_may_not_be_read_is_told() -> None:
    """Consul refuses more than 64 questions at once."""

    async def script(peer: ScriptedCatalog, rights: TokenRights) -> None:
        told = Authorized(peer, "h7", "h99")
        assert await rights.forbidden("intention", (f"h{number}" for number in range(100))) == {"h7", "h99"}
        assert told.questions == [64, 36]
        assert await rights.forbidden("node", ()) == frozenset()
        assert told.questions == [64, 36]

    with_rights(script)


@pytest.mark.parametrize(
    ("status", "text", "is_forbidden"),
    [(401, "ACL support disabled", False), (501, "not served", False), (404, "", False), (403, "Endpoint is blocked by agent configuration", False), (403, "a proxy's", False),
     (403, "ACL not found", True)],
)  # fmt: skip
def test_a_catalog_that_tells_nothing_of_rights_forbids_nothing(status: int, text: str, *, is_forbidden: bool) -> None:
    """It is not asked again for a while; a token that is none reads nothing."""

    async def script(peer: ScriptedCatalog, rights: TokenRights) -> None:
        peer.scripts[AUTHORIZE] = lambda _: web.Response(status=status, text=text)
        assert await rights.forbidden("node", ["host2"]) == ({"host2"} if is_forbidden else frozenset())
        await rights.forbidden("node", ["host2"])
        assert len(peer.asked) == (2 if is_forbidden else 1)

    with_rights(script)


@pytest.mark.parametrize("answer", [web.Response, lambda **_: web.json_response({"a": 1}), lambda **_: web.Response(status=500)])
def test_a_catalog_that_fails_proves_nothing(answer) -> None:
    async def script(peer: ScriptedCatalog, rights: TokenRights) -> None:
        peer.scripts[AUTHORIZE] = lambda _: answer(text="x") if answer is web.Response else answer()
        with pytest.raises(CatalogError):
            await rights.forbidden("node", ["host2"])

    with_rights(script)
