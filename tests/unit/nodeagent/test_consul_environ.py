"""Consul's environment variables: what the file leaves open, and what cannot be followed."""

from pathlib import Path

import pytest

from nodeagent.config import find_faults, load_config, parse_config
from nodeagent.consul_environ import (
    FROM_ENVIRONMENT,
    completed,
    faults_in,
    is_of,
    scopes_in,
    without_secrets,
    without_token,
    without_tokens,
)
from nodeagent.errors import ConfigError

HOST = '[host]\nname = "host1"\naddresses = ["10.0.0.1"]\n'
FILE = HOST + '[catalog]\naddress = "https://10.0.0.250:8501"\nca_file = "/etc/ca.pem"\ntoken_file = "/etc/token"\n'
ALL = {
    "CONSUL_HTTP_ADDR": "127.0.0.1:8500", "CONSUL_HTTP_TOKEN": "canary", "CONSUL_CACERT": "/other.pem", "CONSUL_HTTP_SSL": "true",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({"CONSUL_HTTP_ADDR": "127.0.0.1:8500"}, "http://127.0.0.1:8500"),
        ({"CONSUL_HTTP_ADDR": "http://127.0.0.1:8500"}, "http://127.0.0.1:8500"),
        ({"CONSUL_HTTP_ADDR": "https://consul.example:8501"}, "https://consul.example:8501"),
        ({"CONSUL_HTTP_ADDR": "consul.example:8501", "CONSUL_HTTP_SSL": "1"}, "https://consul.example:8501"),
        ({"CONSUL_HTTP_ADDR": "http://consul.example:8501", "CONSUL_HTTP_SSL": "TRUE"}, "https://consul.example:8501"),
        ({"CONSUL_HTTP_ADDR": "127.0.0.1:8500", "CONSUL_HTTP_SSL": "false"}, "http://127.0.0.1:8500"),
    ],
)
def test_the_address_is_as_consuls_own_clients_take_it(environ, address) -> None:
    assert parse_config(HOST, "nodeagent.toml", environ).catalog.address == address


def test_the_file_decides_first() -> None:
    """Nothing that the file says is replaced."""
    assert parse_config(FILE, "x", ALL) == parse_config(FILE, "x")
    assert parse_config(HOST + '[catalog]\ntoken_file = "/own"\n', "x", ALL).catalog.token_file == "/own"


@pytest.mark.parametrize("environ", [ALL, {"CONSUL_HTTP_TOKEN": "canary", "CONSUL_CACERT": "/other.pem"}, {"CONSUL_HTTP_TOKEN_FILE": "/other"}])
def test_another_servers_token_is_not_sent_to_the_one_that_the_file_names(environ) -> None:
    """Nor is this one judged by that one's CA."""
    text = HOST + '[catalog]\naddress = "https://10.0.0.250:8501"\n'
    assert parse_config(text, "x", environ) == parse_config(text, "x")


def test_whose_the_token_is_says_the_address_beside_it() -> None:
    assert is_of("http://127.0.0.1:8500", {"CONSUL_HTTP_TOKEN": "canary"})
    assert is_of("https://127.0.0.1:8500/", ALL)
    assert not is_of("http://127.0.0.1:8500", ALL)
    assert without_tokens(ALL | {"CONSUL_HTTP_TOKEN_FILE": "/t"}) == {key: value for key, value in ALL.items() if key != "CONSUL_HTTP_TOKEN"}


def test_what_the_file_leaves_open_comes_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "nodeagent.toml"
    path.write_text(HOST)
    table = load_config(path, ALL).catalog
    assert (table.address, table.ca_file, table.token_file) == ("https://127.0.0.1:8500", "/other.pem", FROM_ENVIRONMENT)
    assert "canary" not in repr(table)


def test_who_the_client_is_and_whom_it_expects_come_from_there_too() -> None:
    more = {"CONSUL_CLIENT_CERT": "/own.pem", "CONSUL_CLIENT_KEY": "/own.key", "CONSUL_TLS_SERVER_NAME": "server.dc1.consul"}
    table = parse_config(HOST, "x", ALL | more).catalog
    assert (table.cert_file, table.key_file, table.server_name) == ("/own.pem", "/own.key", "server.dc1.consul")
    assert parse_config(HOST + '[catalog]\nkey_file = "/mine"\n', "x", ALL | more).catalog.key_file == "/mine"
    assert parse_config(FILE, "x", ALL | more).catalog.cert_file == ""
    (fault,) = find_faults(HOST, ALL | {"CONSUL_CLIENT_CERT": "/own.pem"})
    assert "catalog.cert_file and catalog.key_file: one is of no use without the other" in fault


def test_a_tokens_file_counts_before_the_token_itself() -> None:
    environ = ALL | {"CONSUL_HTTP_TOKEN_FILE": "/run/token"}
    assert parse_config(HOST, "x", environ).catalog.token_file == "/run/token"


def test_without_either_the_address_is_missing() -> None:
    with pytest.raises(ConfigError, match="catalog"):
        parse_config(HOST, "x", {"CONSUL_HTTP_TOKEN": "canary"})


@pytest.mark.parametrize("name", ["CONSUL_NAMESPACE", "CONSUL_PARTITION"])
def test_another_namespace_is_refused_where_the_environment_is_asked(name: str) -> None:
    """Else it is told by who may: a shell of somebody who works with Consul, too, must not refuse every command."""
    environ = {"CONSUL_HTTP_ADDR": "127.0.0.1:8500", name: "team"}
    (fault,) = find_faults(HOST, environ)
    assert name in fault
    assert find_faults(FILE, environ) == ()
    assert list(scopes_in(environ)) == [fault]
    for usual in ("default", ""):
        assert find_faults(HOST, environ | {name: usual}) == ()
        assert list(scopes_in(environ | {name: usual})) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONSUL_CAPATH", "/etc/ssl"), ("CONSUL_HTTP_AUTH", "user:pass"), ("CONSUL_HTTP_SSL_VERIFY", "false"),
    ],
)
def test_what_cannot_be_followed_is_refused_where_the_environment_is_asked(name: str, value: str) -> None:
    """A variable that is ignored in silence leads elsewhere than its author thinks."""
    (fault,) = find_faults(HOST, {"CONSUL_HTTP_ADDR": "127.0.0.1:8500", name: value})
    assert name in fault
    assert value not in fault
    assert find_faults(FILE, {name: value}) == ()


def test_a_unix_socket_is_no_address() -> None:
    assert any("unix socket" in fault for fault in find_faults(HOST, {"CONSUL_HTTP_ADDR": "unix:///run/consul.sock"}))


def test_a_catalog_that_is_no_table_is_told_as_ever() -> None:
    assert completed({"catalog": 7}, ALL) == {"catalog": 7}
    assert list(faults_in({"catalog": 7}, {})) == []
    assert find_faults(HOST + "catalog = 7\n", ALL)


def test_processes_that_ask_nobody_get_no_token() -> None:
    """A password is not followed, and is somebody's all the same."""
    assert without_token(ALL | {"CONSUL_HTTP_AUTH": "user:canary"}) == {key: value for key, value in ALL.items() if key != "CONSUL_HTTP_TOKEN"}


def test_an_address_is_shown_without_what_may_be_a_secret() -> None:
    """A password before the host, a token behind the question mark."""
    assert without_secrets("https://me:secret@host:8501/?token=secret") == "https://…@host:8501/?…"
    assert without_secrets("host:8501") == "host:8501"
