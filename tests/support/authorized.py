"""A scripted catalog that tells what a token may do, as Consul 1.8.7 does."""

from aiohttp import web

from tests.support.scripted_catalog import ScriptedCatalog


class Authorized:
    """Everything may be read but `hidden`."""

    def __init__(self, peer: ScriptedCatalog, *hidden: str) -> None:
        self.hidden = set(hidden)
        self.questions: list[int] = []
        peer.authorize = self._answer

    def _answer(self, questions: list[dict[str, str]]) -> web.Response:
        self.questions.append(len(questions))
        if len(questions) > 64:
            return web.Response(status=400, text="Bad request: Refusing to process more than 64 authorizations at once")
        return web.json_response([{**each, "Allow": each["Segment"] not in self.hidden} for each in questions])
