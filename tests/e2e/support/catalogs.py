"""Catalogs to ask the same of: the embedded one, and Consul 1.8.7 with and without ACLs. Fixtures for whole files of tests.

A backend is a name and a context manager that gives a Client with a management token, on an empty catalog. What Consul
has had since 1.9 alone is asked of the embedded one: `newer`.
"""

import contextlib
import itertools
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.catalog_process import ANSWER_S, Process
from tests.e2e.support import consul

NAMES = (f"svc{number}" for number in itertools.count())


@contextlib.contextmanager
def embedded(directory: Path):
    with Process(directory / "data") as process:
        yield process.client()


BACKENDS = {"embedded": embedded, "consul-dev": consul.dev_mode, "consul-deny": consul.default_deny}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Gives the catalog of a name, with two hosts; each is started once, at its first use."""
    clients = {}
    with contextlib.ExitStack() as stack:

        def open_one(name):
            if name not in clients:
                clients[name] = client = stack.enter_context(BACKENDS[name](tmp_path_factory.mktemp(name)))
                for number in (1, 2):
                    client.ok("PUT", "/v1/catalog/register", {"Node": f"host{number}", "Address": f"10.0.0.{number}"})
            return clients[name]

        yield open_one


@pytest.fixture(params=BACKENDS)
def catalog(request, opened):
    return opened(request.param)


@pytest.fixture(params=["embedded"])
def newer(request, opened):
    """Those that keep service-intentions, Consul 1.9 and later, and serve what we have added."""
    return opened(request.param)


@pytest.fixture
def name():
    return next(NAMES)


def register(catalog, name, host="host1", port=80, **more):
    body = {"Node": host, "SkipNodeUpdate": True, "Service": {"Service": name, "ID": name, "Port": port, **more}}
    assert catalog.ok("PUT", "/v1/catalog/register", body) is True


class Asking:
    """A call that is under way in a thread of its own."""

    def __init__(self, call):
        self.began = time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(call,))
        self._thread.start()

    def _run(self, call):
        self._answer = call()
        self.seconds = time.monotonic() - self.began

    def answer(self):
        self._thread.join(ANSWER_S)
        assert not self._thread.is_alive()
        return self._answer
