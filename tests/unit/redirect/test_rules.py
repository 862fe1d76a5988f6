"""The vocabulary: values that can be compared, hashed and listed."""

from redirect.rules import Accept, Chain, Rule, Ruleset, Table, ToThisHost


def table(name: str) -> Table:
    return Table(name, (), (Chain("c", (Rule((ToThisHost(),), Accept()),)),))


def test_equal_tables_are_one_key() -> None:
    """What a table looks like in the kernel is remembered per table."""
    assert {table("a"): 1} == {table("a"): 1}
    assert table("a") != table("b")


def test_a_ruleset_lists_the_capturing_table_first() -> None:
    """It is removed first, and the keeper last."""
    assert [each.name for each in Ruleset(main=table("a"), keeper=table("b"))] == ["a", "b"]
