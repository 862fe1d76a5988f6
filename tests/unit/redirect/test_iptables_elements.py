"""Elements of the iptables backend; what happens to them in a kernel is in tests/e2e/test_redirect_contract.py."""

import pytest

from redirect.errors import RedirectError
from redirect.iptables_elements import IptablesElements
from redirect.settings import Settings

SETTINGS = Settings(agent_uids=(990,), backend="iptables")


def test_bad_values_are_refused_before_anything_is_done() -> None:
    """As by the other backend."""
    with IptablesElements(SETTINGS) as elements:
        with pytest.raises(RedirectError, match="is no IP address"):
            elements.set_capture(["10.0.0.1; flush"], [])
        with pytest.raises(RedirectError, match="port 0"):
            elements.set_capture([], [0])


def test_units_are_not_stamped_and_that_is_no_failure() -> None:
    """The supervisor would try again and again."""
    with IptablesElements(SETTINGS) as elements:
        assert elements.set_units({"system.slice/web.service": 0x5A000001}) == ()
