"""How strict this host is about a service."""

import pytest

from nodeagent.decide.mode import mode_of
from tests.support.mesh import mesh


@pytest.mark.parametrize(("service", "mode"), [("web", "observe"), ("shop", "permissive"), ("ghost", "permissive"), ("", "permissive")])
def test_a_service_own_mode_comes_before_the_host_s(service: str, mode: str) -> None:
    """What has none, or is unknown, has the host's."""
    assert mode == mode_of(mesh(mode="permissive", extra='[service.web]\nmode = "observe"\n'), service)
