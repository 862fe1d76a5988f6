"""What an operator types on a host of a lab: answers as tables and as JSON, changes, errors, exit statuses."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from subprocess import CompletedProcess
from typing import Any

import pytest

from nodeagent.lab import agent
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.echo import Echo, speaks
from tests.e2e.support.unit import Unit
from tests.e2e.support.wire import Wire, new_canary
from tests.support.eventually import eventually

WEB = 8080
READY_S = 60.0
FAILED, USAGE, UNREACHABLE, NOT_FOUND = 1, 2, 3, 4
Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def run(lab: Lab) -> Run:
    """`run("status")`: a command on host1."""
    return lambda *command, **options: lab.exec(options.pop("host", "host1"), "nodeagent", *command, **options)


@pytest.fixture(scope="module", autouse=True)
def busy(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`web` on host2, with one open call from shop on host1, and one that has ended."""
    lab.register("host2", "web", WEB)
    look.allow(lab, "shop", "web")
    address, canary = (lab.host("host2").ipv4, WEB), new_canary()
    with ExitStack() as stack:
        wire = Wire(lab, tmp_path_factory.mktemp("wire"))
        stack.callback(wire.close)
        stack.enter_context(Echo(stack.enter_context(Unit(lab, "host2", "web")).listen("::", WEB)))
        shop = stack.enter_context(Unit(lab, "host1", "shop"))
        with shop.connect(*address) as ended:
            assert speaks(ended, canary.encode())
        assert speaks(shop.connect(*address), canary.encode())
        look.closed(lab, "host1", 1, reason="ok")
        yield
        wire.assert_never_in_clear(canary)


def words(table: str) -> list[list[str]]:
    """The cells of a table's lines, roughly: by blanks."""
    return [line.split() for line in table.splitlines()]


# --- looking -------------------------------------------------------------------------------------------------------

TABLES = {
    ("status",): ["healthy", "2 serving", "interception  active", "catalog", "1 certificates"],
    ("connections",): ["AGE", "shop", "web", "tunnel via host2", "shop -> web (allow)", "open"],
    ("connections", "--closed"): ["AGE", "shop", "web", "ok"],
    ("services",): ["SERVICE", "web", "host2", "meshed", "allow shop"],
    ("certs",): ["SERIAL", "shop", "valid", "spiffe://"],
}


@pytest.mark.parametrize("command", TABLES, ids=" ".join)
def test_a_table_shows_it(run: Run, command: tuple[str, ...]) -> None:
    """Plain text without a terminal's codes."""
    done = run(*command)
    assert (done.returncode, done.stderr) == (0, "")
    for word in TABLES[command]:
        assert word in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("command", TABLES, ids=" ".join)
def test_json_has_a_version_and_no_key(run: Run, command: tuple[str, ...]) -> None:
    """The same for programs."""
    done = run(*command, "-o", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["apiVersion"] == "nodeagent/v1"
    assert "PRIVATE" not in done.stdout
    assert not any("key" in name.lower() for name in _names(json.loads(done.stdout)))


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _names(each)


def test_json_says_what_the_table_says(lab: Lab) -> None:
    """The open call, its service, the certificate that it speaks by."""
    (row,) = look.open_rows(lab, "host1")
    assert (row["source"], row["destination"], row["closed_at"]) == ("shop", "web", 0.0)
    (web,) = [each for each in look.ask(lab, "host1", "services")["services"] if each["name"] == "web"]
    assert web["instances"][0]["is_meshed"]
    assert web["intentions"] == [{"source": "shop", "destination": "web", "action": "allow"}]
    certs = look.ask(lab, "host1", "certs")
    (shop,) = certs["certificates"]
    assert shop["spiffe_id"] == f"spiffe://{certs['trust_domain']}/ns/default/dc/dc1/svc/shop"
    assert (shop["state"], shop["not_after"] > shop["not_before"]) == ("valid", True)
    assert look.total(lab, "host1", "connections") == 1


def test_connections_are_chosen_by_service_and_number(run: Run) -> None:
    """Headers can be left out."""
    assert len(words(run("connections", "--service", "shop", "--no-headers").stdout)) == 1
    assert run("connections", "--service", "nobody", "--no-headers").stdout == ""
    assert len(words(run("connections", "--closed", "--limit", "1").stdout)) == 2


def test_an_agent_that_is_not_there_is_said_with_a_cure(run: Run) -> None:
    """Exit status 3 for each of the commands that ask it."""
    for command in ("status", "connections", "services", "certs"):
        done = run(command, "--socket", "/run/nodeagent/no.sock")
        assert (done.returncode, done.stdout) == (UNREACHABLE, "")
        assert "/etc/nodeagent/nodeagent.toml says /run/nodeagent/api.sock: name that with --socket" in done.stderr
        assert len(done.stderr.splitlines()) == 1


# --- intentions ----------------------------------------------------------------------------------------------------


def test_intentions_are_written_listed_checked_and_deleted(lab: Lab, run: Run) -> None:
    """Each command says what is in force now; `check` says it by exit status too."""
    denied = run("intention", "check", "cron", "web")
    assert (denied.returncode, "default deny" in denied.stdout) == (FAILED, True)
    assert "written: cron -> web (allow)" in run("intention", "allow", "cron", "web").stdout
    allowed = run("intention", "check", "cron", "web", host="host2")
    assert (allowed.returncode, "cron -> web (allow)" in allowed.stdout) == (0, True)
    assert run("intention", "deny", "*", "web").returncode == 0
    assert run("intention", "check", "cron", "web").returncode == 0, "the more specific one decides"
    listed = json.loads(run("intention", "list", "-o", "json").stdout)["intentions"]
    assert [(row["source"], row["action"]) for row in listed if row["destination"] == "web"] == [
        ("cron", "allow"), ("shop", "allow"), ("*", "deny")
    ]  # fmt: skip
    assert words(run("intention", "list").stdout)[0] == ["SOURCE", "DESTINATION", "ACTION", "PRECEDENCE"]
    for source in ("cron", "*"):
        assert f"deleted: {source} -> web" in run("intention", "delete", source, "web").stdout
    assert run("intention", "check", "cron", "web").returncode == FAILED
    again = run("intention", "delete", "cron", "web")
    assert (again.returncode, "there is no intention cron -> web" in again.stderr) == (NOT_FOUND, True)


@pytest.mark.parametrize(
    "name", ["", "a b", "web/../shop", "x" * 200, "a*"], ids=["empty", "blank", "path", "long", "star"]
)
def test_what_cannot_be_a_name_is_a_usage_error(run: Run, name: str) -> None:
    """Before anything is asked or written."""
    for command in (("intention", "allow", "--", name, "web"), ("intention", "check", "--", "shop", name)):
        done = run(*command)
        assert (done.returncode, "cannot name a service" in done.stderr) == (USAGE, True), done
    assert run("service", "register", "--port", "80", "--", name).returncode == USAGE


def test_a_bad_token_is_refused_with_a_cure(lab: Lab, run: Run) -> None:
    """Unknown, or a host's own, which may not write policy; the token is not in the answer."""
    bad = "11111111-2222-3333-4444-555555555555"
    for token in (bad, lab.node_token("host1")):
        path = lab.host("host1").own("etc") / "try.token"
        path.write_text(token)
        done = run("intention", "allow", "evil", "web", "--token-file", "/etc/nodeagent/try.token")
        path.unlink()
        assert (done.returncode, done.stdout) == (FAILED, ""), done
        assert "answered 403" in done.stderr
        assert "token" in done.stderr.partition("403")[2]
        assert token not in done.stderr
    done = run("intention", "list", "--token-file", "/etc/nodeagent/missing.token")
    assert (done.returncode, "cannot be read" in done.stderr) == (FAILED, True)
    assert "evil" not in run("intention", "list").stdout


# --- services ------------------------------------------------------------------------------------------------------


def test_a_service_is_registered_by_command_called_and_removed(lab: Lab, run: Run) -> None:
    """From its registration on its port takes mesh traffic; after its removal it is nobody's."""
    done = run("service", "register", "db", "--port", "5432", "--id", "db-1", host="host2")
    assert (done.returncode, "nodeagent intention allow SOURCE db" in done.stdout) == (0, True)
    listed = {
        row["ID"]: row for row in json.loads(run("service", "list", "-o", "json", host="host2").stdout)["services"]
    }
    assert (listed["db-1"]["Service"], listed["db-1"]["Port"]) == ("db", 5432)
    assert "db-1" in run("service", "list", host="host2").stdout
    assert "db" not in run("service", "list", "--no-headers").stdout, "host1 has none"
    services = "services", "--no-headers"
    eventually(lambda: "db" in run(*services).stdout, look.WITHIN_S, "every agent knows it")
    with Unit(lab, "host2", "db") as db, Echo(db.listen("::", 5432)), Unit(lab, "host1", "shop") as shop:
        look.allow(lab, "shop", "db")
        assert speaks(shop.connect(lab.host("host2").ipv6, 5432))
    assert run("service", "deregister", "db-1", host="host2").returncode == 0
    eventually(lambda: "5432" not in run(*services).stdout, look.WITHIN_S, "every agent has forgotten it")


def test_a_service_that_is_never_captured_does_not_look_protected(lab: Lab, run: Run) -> None:
    """Whoever registered it, past the command that refuses it: the table and JSON of its host say so."""
    lab.register("host2", "remote-shell", 22)
    done = run("services", "--no-headers", host="host2")
    (cells,) = (line for line in done.stdout.splitlines() if line.startswith("remote-shell"))
    assert ("NOT PROTECTED" in cells, "strict" in cells, "nobody" in cells, cells.endswith("anybody")) == (True, False, False, True)
    assert "remote-shell is called past the agent, by anybody: port 22 is never captured" in done.stderr
    (shown,) = [each for each in look.ask(lab, "host2", "services")["services"] if each["name"] == "remote-shell"]
    assert shown["instances"][0]["uncaptured"].startswith("port 22 is never captured")
    lab.stop("host2", "remote-shell")


def test_what_cannot_be_registered_is_refused_with_the_reason(run: Run) -> None:
    """Bad ports and addresses before anything is written; what is not there cannot be removed."""
    assert run("service", "register", "db", "--port", "0").returncode == USAGE
    assert run("service", "register", "db").returncode == USAGE
    bad = run("service", "register", "db", "--port", "80", "--address", "db.example")
    assert (bad.returncode, "--address" in bad.stderr) == (USAGE, True)
    gone = run("service", "deregister", "no-such")
    assert gone.returncode == NOT_FOUND
    assert "host1 has no instance 'no-such'; what it has, by ID: nodeagent service list" in gone.stderr
    missing = run("service", "list", "--config", "/nowhere.toml")
    assert (missing.returncode, "/nowhere.toml" in missing.stderr) == (NOT_FOUND, True)
    assert "db" not in run("service", "list", "--no-headers").stdout


# --- and once all else has been seen, the agent starts anew ----------------------------------------------------------


def test_whoever_asks_as_soon_as_the_agent_is_ready_sees_it_healthy(run: Run, lab: Lab) -> None:
    """As after `systemctl start`, which returns then."""
    place = lab.host("host1")
    lab.stop_agent("host1")
    known = len(look.log_lines(lab, "host1", "supervisor_ready"))
    agent.start_agent(place, lab.state.holder(place))
    eventually(lambda: len(look.log_lines(lab, "host1", "supervisor_ready")) > known, READY_S, "it is ready")
    done = run("status")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
