"""`nodeagent run`, as far as it goes without running."""

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from nodeagent.cli.main import main


def test_help_says_what_it_does() -> None:
    """And loads no supervisor for it."""
    result = CliRunner().invoke(main, ["run", "--help"])
    assert result.exit_code == 0
    assert "SIGTERM drains" in result.output


def test_a_bad_file_is_one_sentence(tmp_path: Path) -> None:
    """With file and key, exit 1."""
    path = tmp_path / "nodeagent.toml"
    path.write_text('[host]\nname = "h"\naddresses = ["10.0.0.1"]\nwokers = 1\n[catalog]\naddress = "https://c:8501"\n')
    result = CliRunner().invoke(main, ["run", "--config", str(path)])
    assert result.exit_code == 1
    assert f"Error: {path}: host.wokers: no such setting; did you mean workers?" in result.output


def test_a_closed_file_is_one_sentence(tmp_path: Path) -> None:
    """With owner, mode and cure, and not the usage of a command that nobody typed: a reload is refused with these words."""
    path = tmp_path / "nodeagent.toml"
    path.touch(mode=0o600)
    os.chown(path, 64901, 64901)
    without = "import ctypes, os, sys; [ctypes.CDLL(None).prctl(24, each, 0, 0, 0) for each in range(64)]; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    argv = [sys.executable, "-c", without, "-m", "nodeagent", "run", "--config", str(path), "--check", "1"]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.strip()) == (
        1, f"Error: {path}: cannot be read by root as the service has it, without CAP_DAC_OVERRIDE: {path} (of uid 64901, mode 0600); chown root {path}; chmod u+r {path}"
    )  # fmt: skip
