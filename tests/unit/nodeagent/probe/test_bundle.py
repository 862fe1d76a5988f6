"""What goes into the archive, and what does not."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.diagnose.facts import Blind
from nodeagent.probe import bundle
from nodeagent.probe.bundle import collect, pack, read_secrets
from tests.unit.nodeagent.probe.scene import scope
from tests.unit.nodeagent.probe.test_host import STATUS

CANARY = "canary-5f1c99d2"


def test_a_dead_agents_host_is_still_told(tmp_path: Path) -> None:
    """What is missing says why, and nothing raises."""
    parts = collect(scope(), lambda: b"{}")
    assert {"config.json", "versions.txt", "sysctls.txt", "rules.txt", "check.json", "ip-rule.txt"} <= {k for k, v in parts.items() if isinstance(v, bytes)}
    assert parts["status.json"] == Blind("nobody listens")
    assert parts["connections.json"] == Blind("the agent was not asked: it does not tell its status")
    config = parts["config.json"]
    assert isinstance(config, bytes)
    assert json.loads(config)["host"]["name"] == "host1"


def test_a_secret_that_got_anywhere_is_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In answers, in errors, in a configuration that cannot be used."""
    token = tmp_path / "token"
    token.write_text(f"{CANARY}\n")
    more = f'token_file = "{token}"\n'

    def leaky(path: str, _kind: object) -> object:
        raise OSError(f"{path}: {CANARY}")

    status = bundle.msgspec.structs.replace(STATUS, problems=[f"refused: {CANARY}"])
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "another-canary")
    parts = collect(scope(more=more, status=status, ask_agent=leaky), lambda: b"said another-canary")
    broken = collect(scope(config=None, config_error=f"x.toml: token = {CANARY}"), lambda: b"")
    texts = [part.why.encode() if isinstance(part, Blind) else part for part in (*parts.values(), *broken.values())]
    assert not [text for text in texts if CANARY.encode() in text or b"another-canary" in text]
    assert b"refused: [redacted]" in b"".join(texts)
    assert read_secrets(scope(more=more), {}) >= {CANARY}


def test_a_part_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """At BUNDLE_PART_BYTES, and says so."""
    monkeypatch.setattr(limits, "BUNDLE_PART_BYTES", 10)
    part = bundle._part(b"x" * 30, ())
    assert part == b"x" * 10 + b"\n[cut here: 20 more characters]\n"


def test_an_archive_is_for_its_owner_alone() -> None:
    """Whoever unpacks it has files of mode 0600 in one directory."""
    body = pack({"a.txt": b"1", "b.txt": Blind("gone")}, "top", 1000.0)
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert [(entry.name, entry.mode, entry.mtime) for entry in archive] == [("top/a.txt", 0o600, 1000), ("top/missing.txt", 0o600, 1000)]
        missing = archive.extractfile("top/missing.txt")
        assert missing is not None
        assert missing.read() == b"b.txt: gone\n"


def test_rules_are_not_asked_of_who_may_not_see_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would say so itself, past everybody's words."""

    def refuse() -> None:
        raise PermissionError("it takes root")

    monkeypatch.setattr(bundle, "check_may_see_network", refuse)
    monkeypatch.setattr(bundle.kernel, "show", lambda: pytest.fail("asked"))
    assert collect(scope(), lambda: b"")["rules.txt"] == Blind("it takes root")


def test_a_program_that_fails_is_said() -> None:
    """With its own words."""
    with pytest.raises(OSError, match=r"ip no-such-thing: .*no-such-thing"):
        bundle._program(("ip", "no-such-thing"))
