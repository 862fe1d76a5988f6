"""`nodeagent run`, as far as it goes without running."""

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
