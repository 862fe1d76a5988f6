"""Protocols of another cluster's catalog."""

import asyncio
import json
from types import SimpleNamespace
from typing import cast

import pytest

from nodeagent.catalog.state import CatalogState
from nodeagent.control.consul import Answer
from nodeagent.control.foreign import Foreign
from nodeagent.control.protocols import Protocols
from nodeagent.control.seen import Seen
from nodeagent.control.watch import Held

ENTRIES = [{"Kind": "service-defaults", "Name": "web", "Protocol": "grpc"}]
DEFAULTS = [{"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "grpc"}}]


def said(value: object) -> Answer:
    return cast("Answer", SimpleNamespace(body=json.dumps(value).encode()))


class Scene:
    """Protocols, and whether another cluster answers."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        self.seen = Seen()
        self.changes = 0
        self.protocols = Protocols(self.seen, cast("Foreign", SimpleNamespace(why=self._why)), self._note)

    async def _why(self) -> str:
        return self.why

    def _note(self) -> None:
        self.changes += 1

    def hear(self) -> list[str]:
        """Both answers; why they are held."""
        held = []
        for take, value in ((self.protocols.take, ENTRIES), (self.protocols.take_default, DEFAULTS)):
            try:
                asyncio.run(take(said(value)))
            except Held as error:
                held.append(str(error))
        return held

    def known(self) -> tuple[object, object]:
        return self.seen.protocols, self.seen.default_protocol


def test_what_the_catalog_says_is_known() -> None:
    scene = Scene()
    assert (scene.hear(), scene.known(), scene.changes) == ([], ({"web": "grpc"}, "grpc"), 2)


def test_of_another_cluster_what_was_heard_stays() -> None:
    scene = Scene("it is another one")
    scene.seen.protocols, scene.seen.default_protocol = {"web": "http"}, "tcp"
    assert scene.hear() == ["protocols stay as they were: it is another one"] * 2
    assert scene.known() == ({"web": "http"}, "tcp")


@pytest.mark.parametrize(("protocols", "default"), [({"web": "http"}, "tcp"), ({}, "")])
def test_where_another_cluster_is_the_first_to_answer_what_was_saved_stays(protocols: dict[str, str], default: str) -> None:
    """And is known from then on: without it no change at all would come into force."""
    scene = Scene("it is another one")
    scene.protocols.remember(CatalogState(protocols=protocols, default_protocol=default))
    assert scene.hear() == ["protocols stay as they were: it is another one"] * 2
    assert (scene.known(), scene.changes) == ((protocols, default), 2)
    scene.why = ""
    assert (scene.hear(), scene.known()) == ([], ({"web": "grpc"}, "grpc"))


def test_where_nothing_is_known_there_is_nothing_to_hold() -> None:
    scene = Scene("it is another one")
    assert (scene.hear(), scene.known()) == ([], ({"web": "grpc"}, "grpc"))
