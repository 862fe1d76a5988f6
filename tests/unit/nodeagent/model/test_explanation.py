"""The steps of a decision."""

from nodeagent.model.explanation import Step


def test_a_step_is_this_host_s_word_unless_it_says_whose() -> None:
    """The callee's half is another's."""
    assert Step("way", "ok", "in a tunnel").by == ""
