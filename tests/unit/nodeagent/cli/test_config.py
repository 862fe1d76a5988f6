"""`nodeagent config validate`."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeagent.cli.config import config
from nodeagent.cli.main import EXIT_FAILED, EXIT_NOT_FOUND, main
from nodeagent.config import DEFAULT_PATH

GOOD = '[host]\nname = "host1"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "https://10.0.0.250:8501"\n'


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """To people a line each; to programs as JSON with a version, also that nothing is wrong."""
    path = tmp_path / "nodeagent.toml"
    path.write_text(GOOD + "[log]\nlevel = 'loud'\nlvl = 1\n")
    shown = CliRunner().invoke(main, ["config", "validate", str(path)])
    assert [line.startswith(f"Error: {path}: log.") for line in shown.stderr.splitlines()] == [True, True]
    told = CliRunner().invoke(main, ["config", "validate", str(path), "-o", "json"])
    answer = json.loads(told.stdout)
    assert (told.exit_code, answer["apiVersion"], answer["valid"]) == (EXIT_FAILED, "nodeagent/v1", False)
    assert [fault.partition(":")[0] for fault in answer["faults"]] == ["log.level", "log.lvl"]
    path.write_text(GOOD)
    told = CliRunner().invoke(main, ["config", "validate", str(path), "-o", "json"])
    assert (told.exit_code, json.loads(told.stdout)["faults"]) == (0, [])


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        (GOOD, 0, "valid"),
        (GOOD.replace("name", "nmae", 1), EXIT_FAILED, "host.nmae: no such setting; did you mean name?"),
        ("[host", EXIT_FAILED, "not TOML"),
        (None, EXIT_NOT_FOUND, "cannot be read"),
    ],
)
def test_a_file_is_judged_before_it_is_used(tmp_path: Path, text: str | None, status: int, said: str) -> None:
    """What a template's `validate:` asks: the exit code decides, and the sentence says what to change."""
    path = tmp_path / "nodeagent.toml"
    if text is not None:
        path.write_text(text)
    shown = CliRunner().invoke(main, ["config", "validate", str(path)])
    assert (status, True, True) == (shown.exit_code, said in shown.output, str(path) in shown.output)


def test_a_file_that_the_agent_cannot_read_is_a_warning_to_root(tmp_path: Path) -> None:
    """As a candidate it is valid all the same."""
    path = tmp_path / "nodeagent.toml"
    path.write_text(GOOD)
    os.chown(path, 64901, 64901)
    path.chmod(0o600)
    shown = CliRunner().invoke(main, ["config", "validate", str(path)])
    assert (shown.exit_code, shown.stdout) == (0, f"{path}: valid\n")
    closed = f"{path} (of uid 64901, mode 0600); chown root {path}; chmod u+r {path}"
    assert shown.stderr == f"warning: the agent cannot read it, as root has no CAP_DAC_OVERRIDE in the service: {closed}\n"


def test_without_a_file_the_agent_s_own_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The help says which one that is."""
    (validate,) = config.commands.values()
    path = tmp_path / "nodeagent.toml"
    path.write_text(GOOD)
    monkeypatch.setattr(validate.params[0], "default", path)
    shown = CliRunner().invoke(main, ["config", "validate"])
    assert (shown.exit_code, shown.output) == (0, f"{path}: valid\n")
    assert f"FILE is {DEFAULT_PATH} unless" in CliRunner().invoke(main, ["config", "validate", "--help"]).output


def test_a_part_of_consul_that_no_mesh_is_in_is_a_warning_where_the_file_names_the_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell's variable does not make the file a bad one."""
    path = tmp_path / "nodeagent.toml"
    path.write_text(GOOD)
    monkeypatch.setenv("CONSUL_NAMESPACE", "team")
    shown = CliRunner().invoke(main, ["config", "validate", str(path)])
    assert (shown.exit_code, shown.stdout) == (0, f"{path}: valid\n")
    assert "warning: the environment's CONSUL_NAMESPACE cannot be followed" in shown.stderr
