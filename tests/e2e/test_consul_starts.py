"""Agents that start one after another beside one Consul 1.8.7, which counts the connections of whoever is gone."""

from nodeagent import limits
from tests.e2e.test_consul_control import consul, played  # noqa: F401 - consul: a fixture
from tests.support.loop import until

SERVICES = 140
STARTS = 3


def test_who_starts_again_and_again_is_answered_and_so_is_everybody_else(consul, tmp_path, monkeypatch) -> None:  # noqa: F811 - the fixture
    """Consul takes 200 of one address; the first has as many as one that has run for long."""
    master = consul.client()
    for n in range(SERVICES):
        service = {"Service": f"s{n}", "ID": f"s{n}", "Port": 5000 + n}
        assert master.put("/v1/catalog/register", {"Node": "far", "Address": "10.77.0.9", "Service": service}).status == 200

    async def script(scene) -> None:
        await until(lambda: scene.state and len(scene.state.instances) >= SERVICES, "all of them")
        await until(lambda: all(watch.is_waiting for path, watch in scene.follower._watches.items() if "/health/" in path), "they wait")
        assert scene.catalog.failing_since is None
        assert consul.client().get("/v1/agent/self").status == 200

    with monkeypatch.context() as patched:
        patched.setattr(limits, "CATALOG_WATCHES_AT_START", limits.CATALOG_WATCHES)
        (tmp_path / "long").mkdir()
        played(consul, tmp_path / "long", script)
    for n in range(STARTS - 1):
        (tmp_path / f"start{n}").mkdir()
        played(consul, tmp_path / f"start{n}", script)
