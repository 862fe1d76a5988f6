"""Elements as ipset's netlink has them; sets in a kernel are in tests/e2e/test_redirect_contract.py."""

import pytest

from redirect import ipset
from redirect.ipset import _encode
from redirect.iptables_lines import IpSet


@pytest.mark.parametrize(
    ("of", "element", "expected"),
    [
        (IpSet("m", "hash:ip", 4), "10.0.0.1", "18000780 0c000180 08000140 0a000001 08000900 00000000"),
        (IpSet("p", "bitmap:port", 4), "8080", "14000780 06000440 1f900000 08000900 00000000"),
        (
            IpSet("a", "hash:net", 6, 5), "8000::/1",
            "34000780 18000180 14000240 80000000 00000000 00000000 00000000 05000300 01000000 08000640 00000005 08000900 00000000",
        ),
    ],
)  # fmt: skip
def test_an_element_is_encoded_as_the_kernel_reads_it(of: IpSet, element: str, expected: str) -> None:
    """Compared with what pyroute2 sends, one by one."""
    assert _encode(of, element).hex() == expected.replace(" ", "")


def test_a_set_goes_with_what_a_killed_fill_left_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of ours stays in a kernel."""
    kernel = {"nodeagent_mesh4", "nodeagent_mesh4_new", "somebody_elses_new"}
    monkeypatch.setattr(ipset, "is_there", kernel.__contains__)
    monkeypatch.setattr(ipset, "_use", lambda name, _use: kernel.remove(name))
    ipset.destroy_all(["nodeagent_mesh4", "nodeagent_mesh6"])
    assert kernel == {"somebody_elses_new"}
