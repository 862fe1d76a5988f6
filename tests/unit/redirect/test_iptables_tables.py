"""What of the iptables backend needs no kernel; the rest is in tests/e2e/test_redirect_contract.py."""

from redirect.iptables_tables import NOT_ATOMIC, plan_text
from redirect.settings import Settings


def test_the_plan_as_text_says_that_it_is_not_atomic() -> None:
    """Both families, each with its tables."""
    lines = plan_text(Settings(agent_uids=(1,), backend="iptables")).splitlines()
    assert lines[0] == NOT_ATOMIC
    assert [line for line in lines if line.startswith(("#", "*"))][1:] == [
        "# IPv4", "*mangle", "*filter", "*nat", "# IPv6", "*mangle", "*filter", "*nat",
    ]  # fmt: skip
