"""`nodeagent enforce`, in front of a whole control."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nodeagent.cli.enforce import _harmed, caller, enforce, summary, table_row
from nodeagent.control.report import CheckAnswer, FlowPart
from nodeagent.model.flow import Flow
from tests.support.control_scene import ControlScene
from tests.support.far_ends import snapshot_of
from tests.support.loop import run, until
from tests.support.rows import row
from tests.unit.nodeagent.control.test_enforce import seen, started

Command = Callable[..., Awaitable[Result]]


def with_control(tmp_path: Path, script: Callable[[Command], Awaitable[None]]) -> None:
    """Runs `script(command)` beside a control in observe that has seen shop call web, which nothing allows."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await started(playing)
            await seen(playing, row(1), row(2))

            async def command(*arguments: str) -> Result:
                return await asyncio.to_thread(CliRunner().invoke, enforce, [*arguments, "--socket", playing.socket])

            await script(command)
            await until(lambda: snapshot_of(playing.worker), "a worker that is well")

    run(scene)


def test_check_shows_and_changes_nothing(tmp_path: Path) -> None:
    """Exit status 1 where somebody would be refused."""

    async def script(command: Command) -> None:
        shown = await command("--check")
        assert shown.exit_code == 1
        assert "no intention allows shop -> web" in shown.output
        assert "this host: observe -> permissive: 1 of 1 flow recorded" in shown.output
        held = in_json(await command("--list", "-o", "json"))
        assert held["modes"][0]["mode"] == "observe"

    with_control(tmp_path, script)


def test_a_step_that_would_refuse_somebody_wants_a_yes(tmp_path: Path) -> None:
    """Nobody is there to ask: nothing is changed, and the message says what to add."""

    async def script(command: Command) -> None:
        refused = await command("strict")
        assert (refused.exit_code, "--yes" in refused.output) == (1, True)
        assert "(host)   observe" in (await command("--list")).output
        done = await command("strict", "--yes")
        assert (done.exit_code, "this host is now strict" in done.output) == (0, True)
        assert "there is no stricter mode" in (await command()).output

    with_control(tmp_path, script)


def test_a_step_that_harms_nobody_is_done_at_once(tmp_path: Path) -> None:
    """One service first, then the host; and back."""

    async def script(command: Command) -> None:
        service = await command("strict", "--service", "shop")
        assert (service.exit_code, "shop on this host is now strict" in service.output) == (0, True)
        assert "no stricter mode" in (await command("strict", "--service", "shop")).output
        back = await command("--reset", "--service", "shop")
        assert (back.exit_code, "shop on this host is now observe" in back.output) == (0, True)
        host = in_json(await command("permissive", "--yes", "-o", "json"))
        assert host["modes"][0]["mode"] == "permissive"
        unknown = await command("--service", "shopp")
        assert (unknown.exit_code, "did you mean shop?" in unknown.output) == (4, True)

    with_control(tmp_path, script)


def test_back_to_the_file_s_mode_is_a_step_like_others(tmp_path: Path) -> None:
    """Whom it would refuse is shown and asked for; with --yes nothing is looked at, as there may be nothing yet."""

    async def script(command: Command) -> None:
        refused = await command("--reset")
        assert (refused.exit_code, "Switch this host to strict? Nothing was changed" in refused.output) == (1, True)
        assert "(host)   observe" in (await command("--list")).output
        done = await command("--reset", "--yes")
        assert (done.exit_code, "this host is now strict" in done.output) == (0, True)
        again = await command("--reset")
        assert (again.exit_code, again.output.splitlines()[-1]) == (0, "this host is strict, as the file says")
        assert "->" not in "".join(line for line in again.output.splitlines() if line.startswith("this host"))
        assert "no stricter mode" not in again.output

    with_control(tmp_path, script)


def test_a_refusal_in_json_is_json(tmp_path: Path) -> None:
    """What would be refused, and that nothing was changed; the exit status and the sentence are those of the table."""

    async def script(command: Command) -> None:
        refused = await command("strict", "-o", "json")
        told = in_json(refused)
        assert (refused.exit_code, told["apiVersion"], told["changed"], told["proposed"]) == (1, "nodeagent/v1", False, "strict")
        assert [part["flow"]["source"] for part in told["refused"]] == ["shop"]
        assert "Nothing was changed" in refused.stderr
        assert "(host)   observe" in (await command("--list")).output

    with_control(tmp_path, script)


def test_only_what_was_seen_lately(tmp_path: Path) -> None:
    """The flows of before are left out, and it says so."""

    async def script(command: Command) -> None:
        shown = await command("--check", "--since", "1h")
        assert (shown.exit_code, "1 of 1 flow seen in 1 h 0 min would be refused" in shown.output) == (1, True)

    with_control(tmp_path, script)
    answer = CheckAnswer(service="", mode="observe", proposed="strict", flows=0, since=0.0, refused=[], within_s=7200.0)
    assert "no flow was seen in 2 h 0 min, so nobody can say" in summary(answer, 100.0)


def test_what_is_superseded_is_told_and_asks_for_nothing() -> None:
    """How many, and by what."""
    part = FlowPart(flow=Flow("plaintext", "", "web", "10.0.0.1:1", client="10.0.0.2"), times=3, last_at=40.0, reason="plaintext_refused", error="no")
    answer = CheckAnswer(service="", mode="observe", proposed="strict", flows=2, since=40.0, refused=[], superseded=[part])
    assert summary(answer, 100.0).endswith("none of 2 flows recorded in 1 min would be refused (1 in clear superseded: its host calls by tunnel since)")
    assert _harmed(answer) == []


def test_one_reset_takes_back_what_a_spoiled_file_has_made_strict(tmp_path: Path) -> None:
    """The services', too; it says which before it asks, and after it was done."""

    async def scene() -> None:
        (tmp_path / "modes.json").write_bytes(b"{")
        tables = '[service.web]\nmode = "observe"\n[service.shop]\nmode = "permissive"\n'
        async with ControlScene(tmp_path, tables) as playing:
            await until(lambda: snapshot_of(playing.worker), "the snapshot")

            async def command(*arguments: str) -> Result:
                return await asyncio.to_thread(CliRunner().invoke, enforce, [*arguments, "--socket", playing.socket])

            playing.peer.allow("shop -> web")
            await until(lambda: snapshot_of(playing.worker).services["web"].intentions, "the intention")
            await seen(playing, row(1, peer="host2"))
            asked = await command("--reset")
            assert asked.exit_code == 1
            assert "web to observe, shop to permissive: none of 1 flow" in asked.output
            assert "Switch web to observe, shop to permissive? Nothing was changed" in asked.output
            done = await command("--reset", "--yes")
            assert done.exit_code == 0
            for line in ("this host is strict, as the file says", "shop on this host is now permissive, as the file says",
                         "web on this host is now observe, as the file says"):  # fmt: skip
                assert line in done.output.splitlines()
            assert [part["mode"] for part in in_json(await command("--list", "-o", "json"))["modes"]] == ["strict", "permissive", "observe"]

    run(scene)


def in_json(result: Result) -> Any:
    """The answer; control, in the same process, logs to the same output."""
    return json.JSONDecoder().raw_decode(result.output, result.output.index("{"))[0]


@pytest.mark.parametrize("arguments", [["--check", "--reset"], ["strict", "--list"], ["lax"], ["strict", "--reset"], ["--list", "--since", "1h"], ["--since", "31d"]])
def test_contradictions_are_usage_errors(arguments: list[str]) -> None:
    """Exit status 2, before anybody is asked."""
    assert CliRunner().invoke(enforce, arguments).exit_code == 2


def test_nothing_recorded_says_so() -> None:
    """It is no promise that nobody would be refused."""
    answer = CheckAnswer(service="", mode="observe", proposed="strict", flows=0, since=0.0, refused=[])
    assert "no flow was recorded yet" in summary(answer, 100.0)


def test_what_would_leave_its_tunnel_is_told_and_asked_for(tmp_path: Path) -> None:
    """`--check` fails, the switch wants a --yes, and says what may happen."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until(lambda: snapshot_of(playing.worker), "the snapshot")
            playing.peer.allow("shop -> web")
            await until(lambda: snapshot_of(playing.worker).services["web"].intentions, "the intention")
            await seen(playing, row(1, peer="host2"))

            async def command(*arguments: str) -> Result:
                return await asyncio.to_thread(CliRunner().invoke, enforce, ["observe", *arguments, "--socket", playing.socket])

            told = "1 would go in clear to hosts with an agent: refused there where that host or service is strict"
            shown = await command("--check")
            assert (shown.exit_code, "none of 1 flow " in shown.output, f"would be refused; {told}" in shown.output) == (1, True, True)
            refused = await command()
            assert (refused.exit_code, f"{told}. Switch this host to observe? Nothing was changed" in refused.output) == (1, True)
            assert (await command("--yes")).exit_code == 0

    run(scene)


def test_callers_are_shown_as_well_as_they_are_known() -> None:
    """By name, else by what the kernel told."""
    assert caller(Flow("outbound", "shop", "web", "10.0.0.1:1")) == "shop"
    assert caller(Flow("outbound", "", "web", "10.0.0.1:1", unit="cron.service", uid=7)) == "(unidentified, cron.service, uid 7)"
    assert caller(Flow("plaintext", "", "web", "10.0.0.1:1", client="192.0.2.9")) == "(unidentified, 192.0.2.9)"
    flow = Flow("outbound", "shop", "web", "10.0.0.1:1")
    part = FlowPart(flow=flow, times=3, last_at=40.0, reason="denied", error="no", hint="because")
    assert table_row(part, 100.0) == ["1 min ago", "3", "shop", "web", "10.0.0.1:1", "denied", "no [because]"]
