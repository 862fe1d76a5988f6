"""The mesh's CA in the hands of a test: lives of seconds, rotation and revocation by the command line."""

import json
import subprocess
from typing import Any

from nodeagent.lab import catalog
from nodeagent.lab.catalog import data_directory
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.settings import restart


def start_catalog(lab: Lab, ttl_s: int) -> None:
    """With the data that it has, and certificates that live so long from now on."""
    state = lab.state
    catalog.start_catalog(state.hub, state.holder(state.hub), "--leaf-ttl", str(ttl_s))


def shorten_lives(lab: Lab, ttl_s: int) -> None:
    """All certificates of the mesh live so long from now on."""
    look.kill_catalog(lab)
    start_catalog(lab, ttl_s)
    for host in lab.state.members:
        restart(lab, host.name)


def serials(lab: Lab, host: str) -> dict[str, str]:
    """Service -> serial of the certificate that a host has for it now."""
    return {row["service"]: row["serial"] for row in look.ask(lab, host, "certs")["certificates"]}


def ca(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`nodeagent ca …` on host1, with the operator's token."""
    token = data_directory(lab.host("hub")) / "management.token"
    return lab.exec("host1", "nodeagent", "ca", *arguments, "--token-file", str(token))


def ca_state(lab: Lab) -> dict[str, Any]:
    """`nodeagent ca status`."""
    done = ca(lab, "status", "-o", "json")
    assert done.returncode == 0, done.stderr
    state: dict[str, Any] = json.loads(done.stdout)
    return state


def believed(lab: Lab, host: str) -> set[str]:
    """Ids of the roots that a host's agent believes."""
    return set(look.ask(lab, host, "certs")["roots"])


def accessor_of(lab: Lab, host: str) -> str:
    """Of the token that the lab made for a host's agent."""
    return next(
        str(row["AccessorID"])
        for row in lab.catalog("GET", "/v1/acl/tokens")
        if row["NodeIdentities"] == [{"NodeName": host}]
    )


def revoke(lab: Lab, accessor: str) -> None:
    """`nodeagent catalog token revoke` on the catalog's machine."""
    data = str(data_directory(lab.host("hub")))
    done = lab.exec("hub", "nodeagent", "catalog", "--data", data, "token", "revoke", accessor)
    assert done.returncode == 0, done.stderr
