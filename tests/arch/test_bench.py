"""The bench measures what it says it does."""

import json
import subprocess
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "script" / "bench"


def test_a_small_mesh_is_measured() -> None:
    """Each kind of change came into force in the worker, and each was a delta."""
    command = [BENCH, "snapshot", "--services", "30", "--intentions", "10", "--changes", "3", "--settle", "0.1", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    stages = {stage["name"]: stage for stage in json.loads(done.stdout)["stages"]}
    assert ["idle", "whole", "endpoint", "moved", "here", "intention", "service"] == list(stages)
    for name in ("endpoint", "moved", "here", "intention", "service"):
        assert (3, 3) == (len(stages[name]["latencies_ms"]), len(stages[name]["sent"]))
        assert max(stages[name]["sent"]) < stages["whole"]["sent"][0] / 5
    assert "measured: service" in done.stderr


@pytest.mark.parametrize(("words", "status"), [(["--help"], 0), ([], 2), (["nonsense"], 2), (["snapshot", "--help"], 0)])
def test_it_says_how_it_is_used(words: list[str], status: int) -> None:
    """Where nothing is measured, nothing is begun."""
    done = subprocess.run([BENCH, *words], capture_output=True, text=True, check=False)
    assert (status, True) == (done.returncode, "script/bench" in done.stdout + done.stderr)
