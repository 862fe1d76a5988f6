"""What is printed: nothing that a terminal obeys, hashes cut, documents whole."""

from nodeagent.catalog.policy.audit import Actor, Change, Elsewhere, Trail
from nodeagent.catalog.policy.entries import Key
from nodeagent.cli import policy_show
from nodeagent.cli.policy_show import show_diff, show_entries, show_faults, show_history
from nodeagent.cli.policy_store import Stored

KEY = Key("mesh", "mesh")
ROOT = Actor(0, "root", "host1", "accessor-of-a-token")


def test_faults_are_lines_without_what_a_terminal_obeys(capsys):
    show_faults(["a: \x1b[31mred", "b"], "table")
    assert capsys.readouterr().err == "Error: a: ?[31mred\nError: b\n"


def test_documents_are_whole_and_one_is_no_list(capsys):
    stored = [Stored(KEY, {"Kind": "mesh", "Name": "mesh"}, 5, None)]
    show_entries(stored, "yaml")
    assert capsys.readouterr().out == "Kind: mesh\nName: mesh\nModifyIndex: 5\n"
    show_entries(stored * 2, "yaml")
    assert capsys.readouterr().out.count("---\n") == 1
    show_entries([], "json")
    assert capsys.readouterr().out == "[]\n"


def test_whether_anything_differs_is_told():
    assert not show_diff([(KEY, {"a": 1}, {"a": 1})], "table")
    assert show_diff([(KEY, None, {"a": 1})], "table")


def test_a_history_has_a_row_for_each_change(capsys):
    trail = Trail((Change(86_400.0, ROOT, "changed", "b" * 16, "c" * 16, "old\n", "new\n"),), dropped=5)
    show_history({KEY: trail}, {}, "table", with_text=False, no_headers=True)
    first, second = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines())
    assert first == "1970-01-02 00:00:00 mesh mesh changed root (0) on host1 accessor bbbbbbbb -> cccccccc"
    assert second == "since mesh mesh external - - cccccccc -> -"
    show_history({KEY: trail}, {}, "table", with_text=True, no_headers=True)
    assert "-old\n+new\n" in capsys.readouterr().out


def test_the_time_of_what_came_from_elsewhere_is_between_two():
    cells = policy_show._cells(KEY, Elsewhere(0.0, 86_400.0, "", "a"))
    assert (cells[0], cells[-1]) == ("before 1970-01-02 00:00:00", "- -> a")
