"""What a look starts from."""

import pytest

from nodeagent.errors import ConfigError
from tests.unit.nodeagent.probe.scene import scope


def test_settings_are_there_or_refused() -> None:
    """A probe that needs them is blind without."""
    assert scope().settings.host.name == "host1"
    with pytest.raises(ConfigError, match="cannot be used"):
        _ = scope(config=None).settings
