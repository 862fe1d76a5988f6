"""How strict this host is about a service."""

import pytest

from nodeagent.decide.mode import mode_of, next_mode, under_modes
from tests.support.mesh import mesh


@pytest.mark.parametrize(("service", "mode"), [("web", "observe"), ("shop", "permissive"), ("ghost", "permissive"), ("", "permissive")])
def test_a_service_own_mode_comes_before_the_host_s(service: str, mode: str) -> None:
    """What has none, or is unknown, has the host's."""
    assert mode == mode_of(mesh(mode="permissive", extra='[service.web]\nmode = "observe"\n'), service)


def test_the_next_mode_is_the_next_stricter() -> None:
    """Strict has none."""
    assert [next_mode(mode) for mode in ("observe", "permissive", "strict")] == ["permissive", "strict", "strict"]


def test_a_snapshot_under_another_mode_is_the_one_that_the_configuration_would_give() -> None:
    """Of the host, and of one service."""
    assert under_modes(mesh(mode="observe"), {"": "strict"}) == mesh(mode="strict")
    web = mesh(mode="observe", extra='[service.web]\nmode = "strict"\n')
    assert mode_of(under_modes(mesh(mode="observe"), {"web": "strict"}), "web") == mode_of(web, "web") == "strict"
    assert dict(under_modes(mesh(mode="observe"), {"web": "strict"}).services) == dict(web.services)
