"""What the client tools of redis and PostgreSQL say is the same with and without the mesh."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import daemons, mesh
from tests.e2e.support.tools import WORKS, Tools
from tests.e2e.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("tunnels_only")


@pytest.fixture(scope="module")
def labs(make_lab: MakeLab) -> Iterator[tuple[Lab, Lab]]:
    """One without and one with agents, each with a redis and a PostgreSQL on host2."""
    with ExitStack() as stack:
        made = make_lab(agents=False), make_lab()
        for lab in made:
            daemons.start_redis(lab, "host2")
            daemons.start_postgres(lab, "host2", stack.enter_context(daemons.directory_of("postgres")))
            stack.callback(lab.stop, "host2", "db")
        for service in ("redis", "db"):
            mesh.allow(made[1], "shop", service)
        yield made


@pytest.mark.parametrize("work", WORKS)
def test_a_tool_says_the_same(labs: tuple[Lab, Lab], tmp_path: Path, work: str) -> None:
    """Results, errors and exit statuses; and its connections were captured."""
    meshed = labs[1]
    before = mesh.opened(meshed, "host1")["outbound"]
    said = [WORKS[work](Tools(lab, tmp_path)) for lab in labs]
    assert said[1] == said[0]
    wait_until(lambda: mesh.opened(meshed, "host1")["outbound"] > before, "connections were captured")
    mesh.wait_quiet(meshed)
