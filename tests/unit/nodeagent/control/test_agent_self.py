"""Who answers as the catalog."""

import pytest
from aiohttp import web

from nodeagent.config import CatalogTable
from nodeagent.control.agent_self import SELF, is_embedded, read_self
from nodeagent.control.consul import Catalog
from nodeagent.errors import CatalogError
from tests.support.loop import run
from tests.support.scripted_catalog import ScriptedCatalog
from tests.support.scripted_rights import CONSUL


def with_client(script) -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer, Catalog(CatalogTable(peer.address, token_file=""), lambda: 1000.0) as catalog:
            await script(peer, catalog)

    run(scene)


def test_a_consul_agent_has_the_id_of_its_node() -> None:
    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        assert await is_embedded(catalog)
        peer.set(SELF, CONSUL)
        assert not await is_embedded(catalog)
        found = await read_self(catalog)
        assert (found.node_name, found.datacenter) == ("host1", "dc1")

    with_client(script)


@pytest.mark.parametrize("code", [403, 404, 501])
def test_who_refuses_to_say_is_not_known_to_be_the_embedded_one(code: int) -> None:
    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        peer.scripts[SELF] = lambda _: web.Response(status=code, text="no")
        assert not await is_embedded(catalog)

    with_client(script)


@pytest.mark.parametrize("body", [[], {}, {"Config": 1}])
def test_an_answer_that_is_none_is_an_error(body: object) -> None:
    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        peer.set(SELF, body)
        with pytest.raises(CatalogError, match=SELF):
            await is_embedded(catalog)

    with_client(script)
