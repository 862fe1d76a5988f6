"""`nodeagent config validate`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeagent.cli.main import EXIT_FAILED, EXIT_NOT_FOUND, main

GOOD = '[host]\nname = "host1"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "https://10.0.0.250:8501"\n'


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
