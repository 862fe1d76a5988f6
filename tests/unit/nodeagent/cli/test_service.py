"""What is registered by command."""

import pytest
from click.testing import CliRunner

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
