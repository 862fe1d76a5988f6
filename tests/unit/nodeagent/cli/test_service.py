"""What is registered by command."""

import pytest
from click.testing import CliRunner

from nodeagent.cli.main import main
from nodeagent.cli.service import service, service_body
from nodeagent.errors import CatalogError


def test_the_body_has_the_name_for_an_id_and_no_address_unless_given() -> None:
    assert service_body("web", 80, "", "") == {"Name": "web", "ID": "web", "Port": 80}
    assert service_body("web", 80, "FD77::02", "web-2") == {
        "Name": "web", "ID": "web-2", "Port": 80, "Address": "fd77::2",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "address"), [("", ""), ("a b", ""), ("web", "localhost"), ("web", "10.0.0.300")])
def test_what_cannot_be_is_refused(name: str, address: str) -> None:
    with pytest.raises(CatalogError):
        service_body(name, 80, address, "")


def test_a_capital_is_refused_with_the_name_to_use() -> None:
    with pytest.raises(CatalogError, match=r"'Web' cannot name a service: .*; call it web"):
        service_body("Web", 80, "", "")


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
        ["register", "web", "--port", "70000"],
        ["register", "web", "--port", "1", "--protocol", "ftp"],
    ],
)
def test_bad_options_are_usage_errors(argv: list[str]) -> None:
    assert CliRunner().invoke(service, argv).exit_code == 2
