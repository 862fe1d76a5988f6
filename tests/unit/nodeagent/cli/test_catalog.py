"""`nodeagent catalog token`: beside or without a running server, secrets shown once."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nodeagent import limits
from nodeagent.cli.catalog import DEFAULT_DATA, catalog, options_of, token_kind
from nodeagent.cli.main import main
from nodeagent.embedded.access import Caller
from nodeagent.embedded.database import open_database
from nodeagent.embedded.datadir import DATABASE, prepare_data
from nodeagent.embedded.tokens import find_caller
from nodeagent.model.address import Address


@pytest.fixture
def data(tmp_path):
    prepare_data(tmp_path, "dc1", datetime.now(UTC))
    return tmp_path


def run(data, *argv):
    return CliRunner().invoke(main, ["catalog", "--data", str(data), *argv])


def caller_of(data, secret):
    connection = open_database(data / DATABASE)
    try:
        return find_caller(connection, secret)
    finally:
        connection.close()


def test_standard_output_is_the_secret_alone(data):
    done = run(data, "token", "create", "--node", "host1", "--service", "web", "--service", "db")
    assert done.exit_code == 0
    caller = caller_of(data, done.stdout.strip())
    assert (caller.node, caller.services) == ("host1", ("db", "web"))
    assert done.stdout.strip() not in done.stderr
    assert caller.accessor in done.stderr


def test_a_secret_can_go_into_a_file(data, tmp_path):
    out = tmp_path / "node.token"
    done = run(data, "token", "create", "--node", "host1", "--any-service", "--out", str(out))
    assert done.stdout == ""
    assert out.stat().st_mode & 0o777 == 0o600
    assert caller_of(data, out.read_text().strip()).services == ("*",)


def test_a_token_names_addresses(data):
    done = run(
        data, "token", "create", "--node", "host1", "--any-service", "--address", "10.0.0.1", "--address", "fd00::/64"
    )
    assert caller_of(data, done.stdout.strip()).addresses == ("10.0.0.1", "fd00::/64")
    assert "10.0.0.1 fd00::/64" in run(data, "token", "list").stdout


def test_a_file_with_a_secret_is_replaced_only_on_request(data, tmp_path):
    out = tmp_path / "node.token"
    out.write_text("the only copy")
    words = ("token", "create", "--node", "host1", "--any-service", "--out", str(out))
    done = run(data, *words)
    assert (done.exit_code, "is there already, so no token was made; --force replaces it" in done.stderr) == (1, True)
    assert out.read_text() == "the only copy"
    assert "host1" not in run(data, "token", "list").stdout
    assert run(data, *words, "--force").exit_code == 0
    assert caller_of(data, out.read_text().strip()).node == "host1"


def test_the_directory_is_taken_after_the_subcommand_too(data, tmp_path):
    after = CliRunner().invoke(main, ["catalog", "token", "create", "--management", "--data", str(data)])
    assert caller_of(data, after.stdout.strip()).kind == "management"
    both = ["catalog", "--data", str(tmp_path / "absent"), "token", "list", "--data", str(data)]
    assert "(management)" in CliRunner().invoke(main, both).stdout


@pytest.mark.parametrize("where", ["absent/node.token", "directory"])
def test_a_secret_that_cannot_be_handed_out_leaves_no_token(data, tmp_path, where):
    (tmp_path / "directory").mkdir()
    done = run(data, "token", "create", "--node", "host1", "--any-service", "--out", str(tmp_path / where))
    assert done.exit_code != 0
    assert "host1" not in run(data, "token", "list").stdout


def test_what_is_no_file_is_not_replaced_by_the_secret(data, tmp_path):
    """As /dev/stdout, which everybody else needs."""
    os.mkfifo(tmp_path / "pipe")
    done = run(data, "token", "create", "--read", "--force", "--out", str(tmp_path / "pipe"))
    assert (done.exit_code, "is no file that could be replaced, so no token was made" in done.stderr) == (1, True)
    assert (tmp_path / "pipe").is_fifo()


def test_an_unwritable_file_is_named(data, tmp_path):
    done = run(data, "token", "create", "--node", "host1", "--any-service", "--out", str(tmp_path / "absent" / "x"))
    assert done.exit_code == 1
    assert "absent/x: cannot be written, so no token was made: No such file" in done.stderr


def test_a_catalog_that_others_may_exchange_is_not_opened(data):
    data.chmod(0o777)
    done = run(data, "token", "create", "--management")
    assert done.exit_code == 1
    assert "others may write there" in done.stderr


def test_a_path_that_cannot_be_a_directory_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(tmp_path / "file" / "x", "token", "list")
    assert (done.exit_code, "Not a directory" in done.stderr) == (1, True)


def test_the_default_directory_is_not_the_agents():
    """The control process owns /var/lib/nodeagent: were it taken over, it could exchange the catalog."""
    assert not DEFAULT_DATA.startswith("/var/lib/nodeagent/")


@pytest.mark.parametrize("ttl_s", [limits.TTL_MIN_S - 0.1, limits.TTL_MAX_S + 0.1])
def test_certificates_are_not_due_at_birth_and_end_before_a_revocation_is_forgotten(data, ttl_s):
    done = CliRunner().invoke(catalog, ["--data", str(data), "--leaf-ttl", str(ttl_s)])
    assert done.exit_code == 2
    assert "--leaf-ttl" in done.stderr
    assert limits.TTL_MAX_S < limits.REVOKED_KEPT_S


def test_a_management_token_replaces_a_lost_one(data):
    done = run(data, "token", "create", "--management", "--description", "new")
    assert caller_of(data, done.stdout.strip()) == Caller(caller_of(data, done.stdout.strip()).accessor, "management")


def test_a_token_may_be_for_services_or_for_reading(data):
    """As what it is for is listed and said."""
    made = run(data, "token", "create", "--any-host", "--service", "web", "--service", "db")
    caller = caller_of(data, made.stdout.strip())
    assert (caller.kind, caller.node, caller.services) == ("service", "", ("db", "web"))
    assert "made for db web on every host that is registered;" in made.stderr
    made = run(data, "token", "create", "--read")
    assert caller_of(data, made.stdout.strip()).kind == "read"
    assert "made for reading;" in made.stderr
    listed = run(data, "token", "list").stdout
    assert "(service)" in listed
    assert "(read)" in listed


@pytest.mark.parametrize(
    "words",
    [
        ("--read", "--management"), ("--read", "--node", "host1"), ("--read", "--service", "web"), ("--management", "--any-host"),
        ("--any-host",), ("--any-host", "--any-service"), ("--any-host", "--node", "host1", "--service", "web"), ("--service", "web"),
    ],
)  # fmt: skip
def test_what_a_token_is_for_is_one_thing(data, words):
    assert run(data, "token", "create", *words).exit_code == 2


def test_tokens_are_listed_without_secrets(data):
    secret = run(data, "token", "create", "--node", "host1", "--any-service").stdout.strip()
    listed = run(data, "token", "list")
    assert "host1" in listed.stdout
    assert "any service" in listed.stdout
    rows = json.loads(run(data, "token", "list", "-o", "json").stdout)["tokens"]
    assert [row["NodeIdentities"] for row in rows] == [[], [{"NodeName": "host1"}]]
    assert secret not in listed.stdout + json.dumps(rows)


def test_a_revoked_token_is_nobodys(data):
    secret = run(data, "token", "create", "--node", "host1", "--any-service").stdout.strip()
    accessor = caller_of(data, secret).accessor
    assert run(data, "token", "revoke", accessor).exit_code == 0
    assert caller_of(data, secret) is None
    again = run(data, "token", "revoke", accessor)
    assert again.exit_code == 4
    assert again.stderr.startswith("Error: there is no token")
    assert "token list" in again.stderr


def test_without_a_catalog_there_is_a_cure(tmp_path):
    done = run(tmp_path, "token", "list")
    assert done.exit_code == 1
    assert "start one with: nodeagent catalog --data" in done.stderr


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("--node", "host1"),
        ("--service", "web"),
        ("--node", "host1", "--service", "web", "--any-service"),
        ("--management", "--node", "host1"),
        ("--management", "--address", "10.0.0.1"),
        ("--node", "host1", "--any-service", "--address", "10.0.0.1/8"),
        ("--node", "host1", "--any-service", "--address", "host1.example"),
        ("--node", "a/b", "--any-service"),
        ("--node", "host1", "--service", "*"),
        ("--node", "host1", "--service", "consul"),
        ("--any-host", "--service", "nodeagent"),
    ],
)
def test_contradictions_are_usage_errors(data, argv):
    done = run(data, "token", "create", *argv)
    assert done.exit_code == 2


def test_token_kind():
    said = {"host": None, "services": (), "addresses": (), "any_service": False, "any_host": False, "read": False, "management": True, "description": "x"}
    assert token_kind(**said) == {"kind": "management", "description": "x"}


@pytest.mark.parametrize(
    ("text", "sentence"), [("x", "is not an address"), ("10.0.0.1", "is not an address"), ("x:0", "IPv4 or IPv6")]
)
def test_a_bad_address_is_a_usage_error(data, text, sentence):
    done = CliRunner().invoke(catalog, ["--data", str(data), "--listen", text])
    assert done.exit_code == 2
    assert sentence in done.stderr


def test_half_of_a_certificate_is_a_usage_error():
    with pytest.raises(click.UsageError, match="go together"):
        options_of(Path("/x"), tls_cert=Path("/c"), tls_key=None, plain=False, leaf_ttl=60, listen=Address("::1", 0))


def test_plain_http_is_for_loopback(tmp_path):
    done = run(tmp_path / "new", "--listen", "10.0.0.1:8500", "--plain")
    assert done.exit_code == 1
    assert "--plain is for loopback" in done.stderr
    assert not (tmp_path / "new").exists()


def test_programs_are_answered_in_json(data, tmp_path):
    made = json.loads(run(data, "token", "create", "--node", "host1", "--service", "web", "-o", "json").stdout)
    caller = caller_of(data, made["token"]["SecretID"])
    assert (made["apiVersion"], made["token"]["AccessorID"], caller.services) == ("nodeagent/v1", caller.accessor, ("web",))
    kept = json.loads(run(data, "token", "create", "--read", "--out", str(tmp_path / "secret"), "-o", "json").stdout)["token"]
    assert ("SecretID" in kept, caller_of(data, (tmp_path / "secret").read_text().strip()).accessor) == (False, kept["AccessorID"])
    assert json.loads(run(data, "token", "revoke", caller.accessor, "-o", "json").stdout) == {"apiVersion": "nodeagent/v1", "revoked": caller.accessor}


@pytest.mark.parametrize(("address", "said"), [("127.0.0.1", "would call themselves"), ("0.0.0.0/0", "any address of the mesh"), ("::/0", "any address"), ("10.0.0.0/8", ""),
    ("fe80::1", "is link-local: no host"), ("224.0.0.0/4", "is multicast: no host")])
def test_an_address_that_is_hardly_meant_is_said(data, address, said):
    done = run(data, "token", "create", "--node", "host1", "--service", "web", "--address", address)
    assert (done.exit_code, "warning: " in done.stderr, said in done.stderr) == (0, bool(said), True)


def test_it_listens_by_default_where_its_unit_does():
    """At 8500 a Consul agent may be, which speaks HTTP there."""
    unit = (Path(__file__).parents[4] / "systemd" / "nodeagent-catalog.service").read_text()
    listen, = (option for option in catalog.params if option.name == "listen")
    assert f"LISTEN={listen.default}" in unit
