"""The agent on one screen."""

from click.testing import CliRunner
from msgspec.structs import replace

from nodeagent.cli.status import screen, status
from nodeagent.control.report import (
    CatalogPart,
    IdentityPart,
    InterceptionPart,
    Status,
    SupervisorPart,
    WorkerPart,
)

GOOD = Status(
    host="host1", datacenter="dc1", mode="strict", version="0.1.0", control_pid=2, control_started_at=900.0,
    healthy=True, problems=[], warnings=[],
    supervisor=SupervisorPart(pid=1, version="0.1.0", started_at=880.0, heard_s=0.5),
    interception=InterceptionPart(state="active", units=3, addresses=4, ports=1),
    workers=[WorkerPart(number=n, pid=10 + n, state="serving", started_at=0.0, restarts=n, connections=2) for n in (0, 1)],
    catalog=CatalogPart(address="https://c:1", connected=True, source="catalog", generation=7, age_s=4.0, services=3, hosts=2),
    identity=IdentityPart(
        trust_domain="t.consul", roots=1, certificates=2, missing=[], soonest_expiry=1000.0 + 3600, soonest_service="web"
    ),
)  # fmt: skip


def test_a_healthy_agent_in_eight_lines() -> None:
    lines = screen(GOOD, 1000.0)
    assert lines[0] == "host1 (dc1)  nodeagent 0.1.0  mode strict  healthy"
    assert lines[1:] == [
        "supervisor    pid 1, up 2 min",
        "control       pid 2, up 1 min",
        "workers       2 serving; 4 connections, 0 tunnels with 0 streams, 1 restarts",
        "interception  active: 4 addresses, 1 local ports, 3 units",
        "catalog       https://c:1 connected; generation 7, 3 services, 2 hosts, confirmed 4 s ago",
        "identity      t.consul, 1 roots, 2 certificates, the first to end is web's in 1 h 0 min",
    ]


def test_what_was_found_out_about_the_catalog_is_said() -> None:
    found = replace(GOOD, catalog=replace(GOOD.catalog, found=["this host's Consul agent", "certificates by Connect"]))
    assert "https://c:1 connected (this host's Consul agent, certificates by Connect); generation 7" in "\n".join(screen(found, 1000.0))


def test_a_rotation_and_what_is_revoked_are_said() -> None:
    part = replace(GOOD.identity, roots=2, rotating=["shop", "web"], revoked=3)
    line = screen(replace(GOOD, identity=part), 1000.0)[6]
    assert line.endswith(
        "; still of another root than the one that signs: shop, web; the certificates of 3 revoked tokens are refused"
    )


def test_problems_and_warnings_stand_below() -> None:
    lines = screen(replace(GOOD, healthy=False, problems=["no worker"], warnings=["held"]), 1000.0)
    assert lines[0].endswith("NOT HEALTHY")
    assert [line.split(maxsplit=1) for line in lines[-2:]] == [["PROBLEM", "no worker"], ["warning", "held"]]


def test_an_agent_that_knows_nothing_yet_is_told_as_such() -> None:
    bare = replace(
        GOOD, supervisor=None, workers=[],
        catalog=replace(GOOD.catalog, connected=False, source="none", error="refused"),
        identity=IdentityPart(trust_domain="", roots=0, certificates=0, missing=[]),
    )  # fmt: skip
    text = "\n".join(screen(bare, 1000.0))
    for part in ("not heard yet", "none;", "OUT OF REACH (refused); nothing heard yet", "roots are not known yet"):
        assert part in text


def test_saved_state_and_missing_certificates_are_said() -> None:
    text = "\n".join(screen(replace(
        GOOD, catalog=replace(GOOD.catalog, source="saved"), identity=replace(GOOD.identity, missing=["web"]),
        supervisor=replace(GOOD.supervisor, heard_s=70.0), interception=InterceptionPart(state="failed", detail="no nft", repairs=2),
    ), 1000.0))  # fmt: skip
    for part in ("from the file saved", "none yet for web", "silent for 1 min", "failed (no nft)", "repaired 2 times"):
        assert part in text


def test_that_control_did_not_hear_is_said() -> None:
    part = replace(GOOD.supervisor, control_stalls=2, control_stalled_at=940.0)
    assert screen(replace(GOOD, supervisor=part), 1000.0)[2] == "control       pid 2, up 1 min; hung or too busy to hear 2 times, last 1 min ago"


def test_nobody_at_the_socket_is_exit_status_3(tmp_path) -> None:
    result = CliRunner().invoke(status, ["--socket", str(tmp_path / "none")])
    assert result.exit_code == 3
    assert "systemctl start nodeagent" in result.output
