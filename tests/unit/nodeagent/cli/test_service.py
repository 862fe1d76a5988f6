"""What is registered by command."""

import pytest
from click.testing import CliRunner

from nodeagent.cli.catalog_api import Client
from nodeagent.cli.main import main
from nodeagent.cli.service import service, service_body, services_beside
from nodeagent.errors import NotInCatalog


def test_the_body_has_the_name_for_an_id_and_no_address_unless_given() -> None:
    assert service_body("web", 80, "", "") == {"Name": "web", "ID": "web", "Port": 80}
    assert service_body("web", 80, "fd77::2", "web-2") == {
        "Name": "web", "ID": "web-2", "Port": 80, "Address": "fd77::2",
    }  # fmt: skip


def test_another_service_at_the_same_place_is_named() -> None:
    rows = [
        {"ID": "web", "Service": "web", "Port": 80, "Address": ""},
        {"ID": "api", "Service": "api", "Port": 80, "Address": "10.0.0.1"},
        {"ID": "db", "Service": "db", "Port": 5432, "Address": ""},
    ]
    assert services_beside(rows, "web", 80, "") == ["api"]
    assert services_beside(rows, "shop", 80, "10.0.0.2") == ["web"]
    assert services_beside(rows, "db", 5432, "") == []


def test_a_capital_is_refused_with_the_name_to_use() -> None:
    result = CliRunner().invoke(service, ["register", "Web", "--port", "80"])
    assert result.exit_code == 2
    assert "'Web' cannot name a service" in result.output
    assert "call it web" in " ".join(result.output.split())


def test_an_instance_that_is_not_there_is_told_as_such(tmp_path, monkeypatch) -> None:
    def answer(self: Client, method: str, path: str, body: object = None, **query: str) -> object:
        raise NotInCatalog("the catalog answered 404: give the ID, not the name")

    monkeypatch.setattr(Client, "ask", answer)
    path = tmp_path / "nodeagent.toml"
    path.write_text('[host]\nname = "host1"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "http://127.0.0.1:1"\n')
    result = CliRunner().invoke(main, ["service", "deregister", "web-1", "--config", str(path)])
    said = "Error: host1 has no instance 'web-1'; what it has, by ID: nodeagent service list\n"
    assert (result.exit_code, result.output) == (4, said)


def test_the_list_says_why_an_instance_is_not_well(tmp_path, monkeypatch) -> None:
    services = {"web": {"ID": "web", "Service": "web", "Port": 80}, "db": {"ID": "db", "Service": "db", "Port": 5432}}
    checks = [{"CheckID": "service:web", "ServiceID": "web", "Status": "critical", "Output": "connection refused"}]
    answers = {"GET": {"Services": services}, "POST": []}  # nobody says which rights are missing
    monkeypatch.setattr(Client, "ask", lambda _self, method, path, *_: checks if "health" in path else answers[method])
    path = tmp_path / "nodeagent.toml"
    path.write_text('[host]\nname = "host1"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "http://127.0.0.1:1"\n')
    lines = CliRunner().invoke(main, ["service", "list", "--config", str(path)]).stdout.splitlines()
    assert [line.split("  ")[-1].strip() for line in lines] == ["WHY", "-", "service:web: connection refused"]


def test_a_host_goes_as_a_whole(tmp_path, monkeypatch) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(Client, "ask", lambda _self, *what: asked.append(what))
    path = tmp_path / "nodeagent.toml"
    path.write_text('[host]\nname = "host1"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "http://127.0.0.1:1"\n')
    result = CliRunner().invoke(main, ["service", "deregister", "--host", "--config", str(path)])
    assert (result.exit_code, result.output) == (0, "deregistered: host1\n")
    assert asked == [("PUT", "/v1/catalog/deregister", {"Node": "host1"})]


@pytest.mark.parametrize(
    ("port", "why"),
    [
        (22, "never captured"),
        (8500, "never captured"),
        (9443, "intercept.exclude_ports"),
        (15008, "the agent's own"),
        (15020, "the agent's own"),
    ],
)
def test_a_port_that_is_never_captured_is_refused_before_the_catalog_is_asked(tmp_path, port: int, why: str) -> None:
    path = tmp_path / "nodeagent.toml"
    path.write_text(
        '[host]\nname = "host1"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "http://127.0.0.1:1"\n'
        "[intercept]\nexclude_ports = [9443]\n"
    )
    result = CliRunner().invoke(main, ["service", "register", "web", "--port", str(port), "--config", str(path)])
    assert result.exit_code == 1
    assert f"would not be protected: port {port} is " in result.output
    assert why in result.output


@pytest.mark.parametrize(
    "argv",
    [
        ["register", "web"],
        ["deregister"],
        ["deregister", "web", "--host"],
        ["register", "web", "--port", "70000"],
        ["register", "web", "--port", "1", "--protocol", "ftp"],
        ["register", "web", "--port", "1", "--address", "localhost"],
        ["register", "web", "--port", "1", "--address", "10.0.0.300"],
    ],
)
def test_bad_options_are_usage_errors(argv: list[str]) -> None:
    assert CliRunner().invoke(service, argv).exit_code == 2


def test_a_host_that_the_token_may_not_see_has_not_nothing(tmp_path, monkeypatch) -> None:
    path = tmp_path / "nodeagent.toml"
    path.write_text('[host]\nname = "host1"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "http://127.0.0.1:1"\n')

    def answer(_self: Client, _method: str, path: str, body: object = None, **_query: str) -> object:
        return [{**each, "Allow": each["Resource"] != "node"} for each in body] if isinstance(body, list) else None

    monkeypatch.setattr(Client, "ask", answer)
    result = CliRunner().invoke(main, ["service", "list", "--config", str(path)])
    assert (result.exit_code, "this token may not read the node host1" in result.output) == (1, True)
