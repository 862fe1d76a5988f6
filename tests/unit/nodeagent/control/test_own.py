"""What is registered on this host."""

import pytest

from nodeagent.control.consul import Answer
from nodeagent.control.own import OwnServices
from nodeagent.errors import CatalogError
from tests.support.loop import run

ROW = b'{"Node": {"Node": "host 1"}, "Services": {"web-1": {"ID": "web-1", "Service": "web", "Port": 80}}}'


def test_who_follows_is_told_of_other_services_than_before() -> None:
    """A host that is not there, or is not shown, has none."""

    async def scene() -> None:
        told: list[int] = []
        own = OwnServices("host 1", lambda: told.append(1))
        assert own.path == "/v1/catalog/node/host%201"
        for body, names, count in ((ROW, {"web"}, 1), (ROW + b" ", {"web"}, 1), (b"null", set(), 2)):
            await own.take(Answer(body, None))
            assert (own.names, len(told)) == (names, count)
        with pytest.raises(CatalogError):
            await own.take(Answer(b"[]", None))

    run(scene)
