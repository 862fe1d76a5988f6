"""Elements as ipset's netlink has them; sets in a kernel are in tests/e2e/test_redirect_contract.py."""

import errno
import os

import pytest

from redirect import ipset
from redirect.errors import RedirectError
from redirect.ipset import _encode, _failed
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


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOENT, "ipset mesh4 is not there: somebody removed it, .* else: nodeagent intercept apply$"),
        (errno.EINVAL, r"^ipset mesh4: Invalid argument; does the kernel have ip_set\? \(modprobe ip_set\)$"),
        (errno.EPERM, "^ipset mesh4: Operation not permitted$"),
    ],
)
def test_an_error_of_the_kernel_is_told_by_what_it_means(code: int, said: str) -> None:
    """A set that is gone is no missing program, and a missing module no removed set."""
    with pytest.raises(RedirectError, match=said):
        raise _failed("mesh4", OSError(code, os.strerror(code)))
