"""What turns one table into another, before any kernel is asked."""

from redirect import nft as text
from redirect.plan import MAIN, plan
from redirect.settings import Settings
from redirect.tables import leftover_twins, swap_between

TABLE = plan(Settings(agent_uids=(1,))).main
PLANNED = text.parse_table(text.render_table(TABLE))


def without(heading: str) -> text.Blocks:
    """The planned table that lost a block."""
    return text.Blocks((), {name: body for name, body in PLANNED.bodies.items() if name != heading})


def test_the_same_needs_no_swap() -> None:
    """Apply is idempotent."""
    assert swap_between(TABLE, PLANNED, PLANNED) is None


def test_a_swap_keeps_every_set_that_stays_as_it_is() -> None:
    """What the agent has put there is never emptied by a change of rules, forth or back."""
    swap = swap_between(TABLE, without("chain closed"), PLANNED)
    assert swap is not None
    assert swap.emptied == ()
    assert "set mesh4 {" not in swap.forward
    assert "chain closed {" in swap.forward
    assert "delete set" not in swap.forward + swap.back
    assert "delete chain inet nodeagent closed" in swap.back
    assert "chain closed {" not in swap.back


def test_a_set_that_is_missing_or_different_is_made_anew_and_named() -> None:
    """Its owner has to fill it."""
    missing = swap_between(TABLE, without("map units"), PLANNED)
    assert missing is not None
    assert missing.emptied == ("map units",)
    assert missing.dropped == ()
    other = text.Blocks((), {**PLANNED.bodies, "set mesh4": ("type ipv4_addr", "flags interval")})
    changed = swap_between(TABLE, other, PLANNED)
    assert changed is not None
    assert changed.emptied == ("set mesh4",)
    assert changed.dropped == ("set mesh4",)
    assert "delete set inet nodeagent mesh4" in changed.forward


def test_a_sleeping_table_is_changed_asleep_and_woken_afterwards() -> None:
    """The kernel takes no other change together with the waking."""
    swap = swap_between(TABLE, text.Blocks(("flags dormant",), PLANNED.bodies), PLANNED)
    assert swap is not None
    assert swap.is_asleep
    assert "flags dormant" in swap.forward


def test_only_our_own_twins_are_leftovers() -> None:
    """A table of another program with a similar name is not ours to remove."""
    names = [
        MAIN,
        "nodeagent_keeper",
        "nodeagent_twin_12",
        "nodeagent_keeper_twin_7",
        "nodeagent_twin_x",
        "my_nodeagent_twin_12",
    ]
    assert leftover_twins(names) == ("nodeagent_twin_12", "nodeagent_keeper_twin_7")
