"""How a table of before is written, before any kernel is asked; the rest is in tests/e2e/test_redirect_rollback.py."""

from redirect import nft as text
from redirect.nft_saved import Saved, render_anew

BLOCKS = text.Blocks(
    ("flags dormant",), {"set a": ("type inet_proto", "timeout 5s"), "map m": ("type cgroupsv2 : mark",), "chain c": ("accept",)}
)


def test_a_table_is_made_anew_in_one_transaction() -> None:
    """Whatever is there goes first; elements come after their sets, and as asleep as it was it is again."""
    saved = Saved("t", BLOCKS, {"set a": ("tcp expires 4s856ms", "udp")}, read_at=10.0)
    assert render_anew(saved, 12.0).split("\n") == [
        "add table inet t", "delete table inet t",
        "table inet t {", "\tflags dormant",
        "\tset a {", "\t\ttype inet_proto", "\t\ttimeout 5s", "\t}", "",
        "\tmap m {", "\t\ttype cgroupsv2 : mark", "\t}", "",
        "\tchain c {", "\t\taccept", "\t}", "}",
        "add element inet t a { tcp expires 2856ms, udp }", "",
    ]  # fmt: skip


def test_what_has_run_out_meanwhile_does_not_come_back() -> None:
    """Or a dead agent would live again."""
    saved = Saved("t", BLOCKS, {"set a": ("tcp expires 4s856ms",)}, read_at=10.0)
    assert "add element" not in render_anew(saved, 14.856)


def test_a_table_that_was_not_there_goes() -> None:
    """Whoever made it."""
    assert render_anew(Saved("t", None), 1.0) == text.render_removal("t")
