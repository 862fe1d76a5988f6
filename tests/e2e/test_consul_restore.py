"""`consul snapshot restore` with a real Consul 1.8.7: it ends all waits, with what was there before it, and the index goes far back."""

import pytest

from tests.e2e.support.consul import Consul
from tests.e2e.test_consul_control import played
from tests.support.loop import until

WITHIN_S = 10.0


@pytest.fixture(scope="module")
def consul(tmp_path_factory):
    with Consul(tmp_path_factory.mktemp("consul"), acl=True, node="host1", ae_interval="1s") as running:
        yield running


def test_what_was_allowed_after_the_snapshot_ends_within_seconds(consul, tmp_path) -> None:
    """And what was denied or removed since is as it was; a service that was registered since stays for a while."""

    async def script(scene) -> None:
        scene.consul_cli("intention", "create", "-allow", "api", "db")
        await until(lambda: scene.pairs() == ["api -> db allow"], "the first intention")
        saved = str(tmp_path / "saved.snap")
        scene.consul_cli("snapshot", "save", saved)
        for source, destination in (("shop", "db"), ("shop", "web")):
            scene.consul_cli("intention", "create", "-allow", source, destination)
        scene.consul_cli("intention", "delete", "api", "db")
        for number in range(50):  # the restored index is to be far behind
            scene.master.ok("PUT", f"/v1/kv/filler/{number}", number)
        await until(lambda: scene.pairs() == ["shop -> db allow", "shop -> web allow"], "the others")
        scene.consul_cli("snapshot", "restore", saved)
        await until(lambda: scene.pairs() == ["api -> db allow"], "what was saved", WITHIN_S)
        assert "went back" in scene.follower.rewind_alarm

    played(consul, tmp_path, script)
