"""How a table of before is written, before any kernel is asked; the rest is in tests/e2e/test_redirect_rollback.py."""

from redirect import nft as text
from redirect.nft_saved import Saved, render_anew

LISTING = """table inet t {
\tflags dormant
\tquota q {
\t\t1 mbytes
\t}
\tset a {
\t\ttype inet_proto
\t\ttimeout 5s
\t}
}
"""


def test_a_table_is_made_anew_in_one_transaction() -> None:
    """Whatever is there goes first, elements come last; what is no part of our plans comes back, too."""
    saved = Saved("t", LISTING, {"set a": ("tcp expires 4s856ms", "udp")}, read_at=10.0)
    elements = "add element inet t a { tcp expires 2856ms, udp }\n"
    assert render_anew(saved, 12.0) == text.render_removal("t") + LISTING + elements


def test_what_has_run_out_meanwhile_does_not_come_back() -> None:
    """Or a dead agent would live again."""
    saved = Saved("t", LISTING, {"set a": ("tcp expires 4s856ms",)}, read_at=10.0)
    assert "add element" not in render_anew(saved, 14.856)


def test_a_table_that_was_not_there_goes() -> None:
    """Whoever made it."""
    assert render_anew(Saved("t", None), 1.0) == text.render_removal("t")
