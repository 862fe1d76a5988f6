"""Whoever may register a service gets no access by it to another that runs there, and takes no port from it; from both hosts."""

from collections.abc import Iterator

import pytest

from nodeagent.lab.errors import LabError
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call
from tests.e2e.support.policy import set_intentions
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

API, WEB, FREE = 9090, 8080, 5432
REFUSED = ("reset", "closed", "refused")
RULES = {("*", "api"): "deny", ("*", "aaa"): "allow", ("*", "zzz"): "allow", ("shop", "web"): "allow"}


@pytest.fixture(scope="module")
def callers(lab: Lab) -> Iterator[dict[str, Unit]]:
    """`shop` on each host; api and web run on host2, and nobody may call api."""
    with App(lab, "host2", "api", API), App(lab, "host2", "web", WEB), Unit(lab, "host1", "shop") as far, Unit(lab, "host2", "shop") as near:
        set_intentions(lab, RULES)
        yield {"host1": far, "host2": near}


def claim(lab: Lab, token: str, service: str, port: int, *, host: str = "host2") -> None:
    """Registers a service at all addresses of a host, as its holder's own program would."""
    row = {"Service": service, "ID": service, "Port": port}
    lab.catalog("PUT", "/v1/catalog/register", {"Node": host, "SkipNodeUpdate": True, "Service": row}, token=token)


def release(lab: Lab, service: str) -> None:
    """Takes the claim back."""
    lab.catalog("PUT", "/v1/catalog/deregister", {"Node": "host2", "ServiceID": service})


def token_for(lab: Lab, service: str) -> str:
    """As `nodeagent catalog token create --any-host --service SERVICE`."""
    return str(lab.catalog("PUT", "/v1/acl/token", {"ServiceIdentities": [{"ServiceName": service}]})["SecretID"])


def is_told(lab: Lab, port: int, holder: str, service: str) -> bool:
    """Whether host2 says that the service is there in vain."""
    said = f"two services claim host2:{port}: {holder} (registered first, in force) and {service} "
    return any(said in line for line in look.status(lab, "host2")["warnings"])


def knows(lab: Lab, host: str, service: str) -> bool:
    """Whether the host's agent has heard of the claim."""
    return any(row["name"] == service and row["instances"] for row in look.ask(lab, host, "services")["services"])


@pytest.mark.parametrize("service", ["aaa", "aab"])
@pytest.mark.parametrize("port", [API, WEB])
def test_a_token_for_services_takes_no_port_that_another_holds(lab: Lab, callers: dict[str, Unit], service: str, port: int) -> None:
    """Neither api's, to get at it, nor web's, to cut its callers off."""
    with pytest.raises(LabError, match=r"403.*(api|web) .*is registered there; if it is gone from there, deregister it first"):
        claim(lab, token_for(lab, service), service, port)
    for unit in callers.values():
        address = lab.host("host2").ipv4
        assert call(unit, address, API, "x") in REFUSED
        assert call(unit, address, WEB, "web") == "app:web"


@pytest.mark.parametrize("service", ["aaa", "zzz"])
@pytest.mark.parametrize("is_well", [True, False])
def test_a_claim_that_gets_into_the_catalog_is_told_and_opens_nothing(
    lab: Lab, callers: dict[str, Unit], service: str, is_well: bool  # noqa: FBT001
) -> None:  # fmt: skip
    """By the host's own token, as with Consul whoever may write that service; also while a check of api fails."""
    token, status = lab.node_token("host2"), "passing" if is_well else "critical"
    check = {"Node": "host2", "CheckID": "api-is", "Name": "api-is", "Status": status, "ServiceID": "api"}
    lab.catalog("PUT", "/v1/catalog/register", {"Node": "host2", "SkipNodeUpdate": True, "Check": check})
    try:
        claim(lab, token, service, API)
        eventually(lambda: is_told(lab, API, "api", service), look.WITHIN_S, "the warning")
        for host, unit in callers.items():
            eventually(lambda at=host: knows(lab, at, service), look.WITHIN_S, "the claim")
            for address in (lab.host("host2").ipv4, lab.host("host2").ipv6):
                assert call(unit, address, API, "x") in REFUSED
                assert call(unit, address, WEB, "web") == "app:web"
        said = look.status(lab, "host2")
        assert (said["problems"], said["healthy"]) == ([], True)
        assert service not in {row["service"] for row in look.ask(lab, "host2", "certs")["certificates"]}
    finally:
        release(lab, service)


def test_a_port_of_web_s_stays_web_s(lab: Lab, callers: dict[str, Unit]) -> None:
    """Whoever else is registered there cuts nobody off."""
    claim(lab, lab.node_token("host2"), "aab", WEB)
    try:
        eventually(lambda: is_told(lab, WEB, "web", "aab"), look.WITHIN_S, "the warning")
        for host, unit in callers.items():
            eventually(lambda at=host: knows(lab, at, "aab"), look.WITHIN_S, "the claim")
            assert call(unit, lab.host("host2").ipv4, WEB, "web") == "app:web"
    finally:
        release(lab, "aab")


def test_a_free_port_may_be_a_service_s_wherever_it_runs(lab: Lab, callers: dict[str, Unit]) -> None:
    """That is what the operator said with --any-host; it takes nobody's."""
    claim(lab, token_for(lab, "aaa"), "aaa", FREE, host="host1")
    assert knows_soon(lab, "aaa")


def knows_soon(lab: Lab, service: str) -> bool:
    """Once host1 has heard of it."""
    eventually(lambda: knows(lab, "host1", service), look.WITHIN_S, "the service")
    return True
