"""Whether a program is fit to take over, asked of real programs."""

import asyncio
import os
import sys
from pathlib import Path

import msgspec
import pytest

from nodeagent import limits
from nodeagent.config import parse_config
from nodeagent.process.reload import Command, ReloadRefused, check_fixed, check_successor, own_command
from tests.support.loop import run


def program(path: Path, body: str) -> Command:
    """A script that gets its last argument as `--check=FD`."""
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\nfd = int(sys.argv[-1].partition('=')[2])\n{body}\n")
    path.chmod(0o755)
    return Command(str(path), [str(path), "run"])


def checked(command: Command) -> bytes:
    """What it answers."""

    async def scene() -> bytes:
        return await check_successor(asyncio.get_running_loop(), command, os.environ)

    answer: bytes = run(scene)
    return answer


def test_what_a_fit_program_has_read_is_its_answer(tmp_path: Path) -> None:
    """Whatever it says besides."""
    assert checked(program(tmp_path / "fit", "print('words'); os.write(fd, b'configuration')")) == b"configuration"


@pytest.mark.parametrize(
    ("body", "why"),
    [("sys.exit('a typo in line 3')", "fit: a typo in line 3"), ("sys.exit('\x1b]0;x\x07')", r"fit: \?\]0;x\?$"), ("os.kill(os.getpid(), 9)", "it ended with status -9")],
)
def test_an_unfit_program_is_refused_with_its_own_words(tmp_path: Path, body: str, why: str) -> None:
    """Or with how it ended."""
    with pytest.raises(ReloadRefused, match=why):
        checked(program(tmp_path / "unfit", body))


def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bounded time."""
    monkeypatch.setattr(limits, "RELOAD_CHECK_S", 0.2)
    with pytest.raises(ReloadRefused, match=r"did not check itself within 0\.2 s"):
        checked(program(tmp_path / "slow", "time.sleep(1000)"))


def test_a_program_that_is_not_there_is_refused() -> None:
    """As after a link that leads nowhere."""
    with pytest.raises(ReloadRefused, match="cannot be started"):
        checked(Command("/no/such/program", ["x"]))


FILE = (
    '[host]\nname = "h"\naddresses = ["10.0.0.1"]\ncontrol_user = {}\nworkers = {}\n[catalog]\naddress = "https://c:8501"\n'
    '[admin]\nsocket = "/run/{}/api.sock"\n'
)


def packed(*values: object) -> bytes:
    """A configuration as a successor answers it."""
    return msgspec.msgpack.encode(parse_config(FILE.format(*values), "test"))


def test_what_only_a_restart_can_change_is_refused_with_that_cure() -> None:
    """Each that differs is named; all else may differ."""
    running = parse_config(FILE.format(64901, 1, "nodeagent"), "test")
    check_fixed(running, packed(64901, 2, "nodeagent"))
    with pytest.raises(ReloadRefused, match=r"^admin\.socket, host\.control_user: .*systemctl restart nodeagent"):
        check_fixed(running, packed(64905, 2, "other"))


@pytest.mark.parametrize("answer", [b"", b"\xc1", b"\x01", msgspec.msgpack.encode({"host": 1, "admin": {}})])
def test_an_answer_of_another_version_is_not_judged_by_ours(answer: bytes) -> None:
    """It may have other settings, or another form."""
    check_fixed(parse_config(FILE.format(64901, 1, "nodeagent"), "test"), answer)


def test_a_program_is_started_again_as_it_was(tmp_path: Path) -> None:
    """By the name of its script, which may mean another version by then; without one, by the interpreter."""
    script = program(tmp_path / "script", "").program
    assert own_command([script, "run"], ["python3", script, "run"]) == Command(script, [script, "run"])
    plain = tmp_path / "module.py"
    plain.touch()
    assert own_command([str(plain), "run"], ["python3", "-m", "module", "run"]) == Command(
        sys.executable, [sys.executable, "-m", "module", "run"]
    )


def test_of_a_traceback_the_last_words_are_told_in_one_line(tmp_path: Path) -> None:
    """Of a version that does not import, what is missing; a long text is cut, also where it is one word."""
    with pytest.raises(ReloadRefused, match=r"unfit is not fit: ModuleNotFoundError: No module named 'nosuch'$"):
        checked(program(tmp_path / "unfit", "print('hello', flush=True)\nimport nosuch"))
    with pytest.raises(ReloadRefused, match=r"is not fit: ValueError: a b$"):
        checked(program(tmp_path / "unfit", "try:\n    1 / 0\nexcept Exception:\n    raise ValueError('a\\nb')"))
    with pytest.raises(ReloadRefused, match=r"fit: ….* word word the cause$"):
        checked(program(tmp_path / "unfit", "sys.exit('word\\n' * 2000 + 'the cause')"))
    with pytest.raises(ReloadRefused, match=r"fit: ValueError: word word .*…$"):
        checked(program(tmp_path / "unfit", "raise ValueError('word ' * 2000)"))
    with pytest.raises(ReloadRefused, match=r"fit: …x{2000}$"):
        checked(program(tmp_path / "unfit", "sys.exit('x' * 3000)"))
    with pytest.raises(ReloadRefused, match=r"fit: ValueError: x{1988}…$"):
        checked(program(tmp_path / "unfit", "raise ValueError('x' * 3000)"))
