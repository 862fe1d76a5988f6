"""The archive for a support request: all that helps, and no secret, wherever one was laid."""

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nodeagent.lab.catalog import management_token
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.echo import Echo, speaks
from tests.e2e.support.unit import Unit

WEB = 8080
CANARY = "canary-71b8e2d4c6"
ALWAYS = {
    "check.json", "status.json", "connections.json", "connections-closed.json", "services.json", "certs.json", "modes.json", "config.json",
    "rules.txt", "sysctls.txt", "versions.txt", "processes.txt", "ip-rule.txt", "ip-rule-6.txt", "ip-route.txt", "ip-route-6.txt", "ip-address.txt",
    "listeners.txt", "missing.txt",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def busy(lab: Lab) -> Iterator[None]:
    """`web` on host2, called from host1."""
    with ExitStack() as stack:
        stack.enter_context(Echo(stack.enter_context(Unit(lab, "host2", "web")).listen("::", WEB)))
        lab.register("host2", "web", WEB)
        look.allow(lab, "shop", "web")
        shop = stack.enter_context(Unit(lab, "host1", "shop"))
        assert speaks(shop.connect(lab.host("host2").ipv4, WEB), b"hello")
        yield


def bundle(lab: Lab, out: Path, *env: str) -> dict[str, bytes]:
    """The files of an archive made on host1, by name."""
    done = lab.exec("host1", "env", *env, "nodeagent", "debug", "bundle", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert (out.stat().st_mode & 0o777, out.stat().st_uid) == (0o600, 0)
    with tarfile.open(fileobj=io.BytesIO(out.read_bytes())) as archive:
        files = {entry.name.partition("/")[2]: archive.extractfile(entry) for entry in archive}
        return {name: file.read() for name, file in files.items() if file}


def test_everything_that_helps_is_in_it(lab: Lab, tmp_path: Path) -> None:
    """As it is on this host, now."""
    found = bundle(lab, tmp_path / "x.tar.gz")
    assert ALWAYS <= set(found)
    assert json.loads(found["status.json"])["host"] == "host1"
    assert [row["destination"] for row in json.loads(found["connections.json"])["connections"]] == ["web"]
    assert b"table inet nodeagent" in found["rules.txt"]
    assert lab.host("host2").ipv4.encode() in found["rules.txt"], "the elements of the sets"
    assert b"fwmark 0x5b lookup 133" in found["ip-rule.txt"]
    assert b"Max open files" in found["processes.txt"]
    assert json.loads(found["check.json"])["ok"] is True
    assert json.loads(found["config.json"])["catalog"]["token_file"] == "/etc/nodeagent/node.token"
    assert b"nodeagent " in found["versions.txt"]


def test_no_secret_is_in_it(lab: Lab, tmp_path: Path) -> None:
    """In files, comments, environments, names of checks and reasons."""
    etc = lab.host("host1").own("etc")
    toml = etc / "nodeagent.toml"
    before = toml.read_text()
    toml.write_text(f"# the old token: {CANARY}-comment\n{before}")
    (etc / "operator.token.old").write_text(f"{CANARY}-file\n")
    (lab.host("host1").own("state") / "notes").write_text(f"{CANARY}-state\n")
    try:
        found = bundle(lab, tmp_path / "x.tar.gz", f"CONSUL_HTTP_TOKEN={CANARY}-env", f"MY_PASSWORD={CANARY}-variable")
    finally:
        toml.write_text(before)
        (etc / "operator.token.old").unlink()
        (lab.host("host1").own("state") / "notes").unlink()
    operator = (etc / "operator.token").read_text().strip()
    secrets = [CANARY, lab.node_token("host1"), lab.node_token("host2"), operator, management_token(lab.state.hub), "PRIVATE KEY"]
    assert [] == [(name, secret[:6]) for name, body in found.items() for secret in secrets if secret.encode() in body]


def test_a_broken_configuration_is_told_without_its_secrets(lab: Lab, tmp_path: Path) -> None:
    """What stands where it does not belong is not repeated."""
    toml = lab.host("host1").own("etc") / "nodeagent.toml"
    before = toml.read_text()
    toml.write_text(before.replace("[catalog]", f'[catalog]\ntoken = "{CANARY}"'))
    try:
        found = bundle(lab, tmp_path / "x.tar.gz")
    finally:
        toml.write_text(before)
    assert b"catalog.token: " in found["config.json"]
    assert [] == [name for name, body in found.items() if CANARY.encode() in body]


def test_a_dead_agent_leaves_much_to_see(lab: Lab, tmp_path: Path) -> None:
    """And the archive says what it could not ask."""
    lab.kill_agent("host1")
    try:
        found = bundle(lab, tmp_path / "x.tar.gz")
    finally:
        lab.start_agent("host1")
    assert b"status.json: nobody listens at" in found["missing.txt"]
    assert b"table inet nodeagent" in found["rules.txt"]
    assert json.loads(found["check.json"])["ok"] is False


def test_a_full_disk_leaves_no_half_of_one(lab: Lab, tmp_path: Path) -> None:
    """An error with its cure."""
    script = f"mount -t tmpfs -o size=4k tmpfs {tmp_path} && nodeagent debug bundle --out {tmp_path}/x.tar.gz; echo $?; ls {tmp_path}; umount {tmp_path}"
    done = lab.exec("host1", "sh", "-c", script)
    assert done.stdout.split() == ["1"], done.stdout + done.stderr
    assert "No space left on device; name another place with --out" in done.stderr
