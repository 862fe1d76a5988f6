"""Settings refuse what no rule can mean, and count cgroup levels as the kernel does."""

from typing import Any

import pytest

from redirect.errors import RedirectError
from redirect.settings import ReturnPath, Settings

UIDS = (64901, 64902)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"agent_uids": ()}, "users of its own"),
        ({"agent_uids": (0, 5)}, "users of its own"),
        ({"outbound_port": 0}, "port 0"),
        ({"exclude_ports": (65536,)}, "port 65536"),
        ({"exclude_addresses": (("10.0.0.1", 0),)}, "port 0"),
        ({"catalog_port": 65536}, "port 65536"),
        ({"exclude_addresses": (("catalog.example", 8501),)}, "catalog.example"),
        ({"inbound_port": 15001}, "each must differ"),
        ({"other_ports": (15008,)}, "each must differ"),
        ({"mesh_cidrs": ("10.0.0.1/8",)}, "10.0.0.1/8"),
        ({"exclude_cidrs": ("ten",)}, "'ten'"),
        ({"unit_marks": (9, 3)}, "marks 0x9 to 0x3"),
        ({"unit_marks": (0x50, 0x60)}, "outside it"),
        ({"return_path": ReturnPath(mark=0)}, "outside it"),
        ({"return_path": ReturnPath(table=0)}, "routing table 0"),
        ({"return_path": ReturnPath(table=254)}, "routing table 254"),
        ({"return_path": ReturnPath(preference=0)}, "preference 0"),
        ({"return_path": ReturnPath(preference=40_000)}, "preference 40000"),
    ],
)
def test_a_value_that_no_rule_can_mean_is_refused_by_name(options: dict[str, Any], words: str) -> None:
    """Before anything touches the kernel."""
    with pytest.raises(RedirectError, match=words):
        Settings(**{"agent_uids": UIDS} | options)


@pytest.mark.parametrize(
    ("root", "levels"), [("", [1, 2, 3, 4]), ("lab", [2, 3, 4, 5]), ("/lab/x/host1/", [4, 5, 6, 7])]
)
def test_cgroup_levels_are_counted_from_the_mount(root: str, levels: list[int]) -> None:
    """A unit may be directly below the host's root or in nested slices."""
    assert list(Settings(agent_uids=UIDS, cgroup_root=root).cgroup_levels) == levels


def test_all_ports_of_the_agent_are_known() -> None:
    """None of them may ever be captured."""
    assert Settings(agent_uids=UIDS, other_ports=(15020,)).agent_ports == (15001, 15006, 15008, 15020)
