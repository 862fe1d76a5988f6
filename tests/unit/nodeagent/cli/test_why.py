"""`nodeagent why` on a terminal."""

import pytest
from click.testing import CliRunner

from nodeagent.cli.why import screen, why
from nodeagent.control.report import WhyAnswer
from nodeagent.model.explanation import Step
from tests.support.rows import row

STEPS = [
    Step("capture", "ok", "an address of the catalog"),
    Step("callee", "refused", "denied: no\x1b[2J", "host2"),
    Step("outcome", "unknown", "nobody knows"),
]


def test_a_line_for_each_step_with_its_sign_and_whose_word_it_is() -> None:
    """What a peer or the catalog wrote cannot move the cursor."""
    answer = WhyAnswer(source="shop", destination="web", address="10.77.0.2:80", generation=1, steps=STEPS, passes=False)
    lines = [line.replace("\x1b[32m", "").replace("\x1b[31m", "").replace("\x1b[33m", "").replace("\x1b[0m", "") for line in screen(answer)]
    assert lines == [
        "shop -> web at 10.77.0.2:80",
        "\N{CHECK MARK} capture  an address of the catalog",
        "\N{MULTIPLICATION SIGN} callee   denied: no?[2J [host2]",
        "? outcome  nobody knows",
    ]


def test_a_caller_without_a_name_and_a_destination_without_one() -> None:
    """An unregistered port has an address only."""
    answer = WhyAnswer(source="", destination="", address="192.0.2.1:443", generation=1, steps=[], passes=True)
    assert screen(answer) == ["an unidentified workload -> 192.0.2.1:443"]


def test_a_handshake_has_no_caller_and_a_cut_tunnel_no_address() -> None:
    knock = row(direction="tunnel", client="10.0.0.2:4000", original_dst="", source="", destination="")
    answer = WhyAnswer(source="", destination="", address="", generation=1, steps=[], passes=False, connection=knock)
    assert screen(answer) == ["a tunnel handshake of 10.0.0.2:4000"]
    answer.source, answer.destination = "shop", "web"
    assert screen(answer) == ["shop -> web"]


@pytest.mark.parametrize("arguments", [
    [], ["0-1", "--to", "web"], ["--from", "shop"], ["0-1", "--port", "80"], ["--to", "web", "--port", "0"], ["--from", "", "--to", "web"],
    ["--to", "web", "--address", "10.0.0.1"], ["--to", "web", "--address", "fd00::1"], ["--to", "web", "--address", "web:80"],
])  # fmt: skip
def test_it_wants_a_connection_or_a_pair(arguments: list[str]) -> None:
    """Exit status 2, before anybody is asked."""
    assert CliRunner().invoke(why, arguments).exit_code == 2


def test_without_an_agent_it_is_unreachable() -> None:
    """Exit status 3."""
    assert CliRunner().invoke(why, ["0-1", "--socket", "/nowhere/api.sock"]).exit_code == 3
