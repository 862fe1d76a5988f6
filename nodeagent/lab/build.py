"""Building a lab: hub, catalog, hosts, agents; what fails half way is taken down again."""

import shutil

import msgspec

from nodeagent.config import Backend
from nodeagent.lab import agent, holder, layout, settings, teardown
from nodeagent.lab import state as states
from nodeagent.lab.catalogs import catalog_of
from nodeagent.lab.errors import LabError
from nodeagent.lab.progress import Say
from nodeagent.lab.state import LabState
from nodeagent.model.service import Mode

TOOLS = {
    "ip": "iproute2", "ss": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "setpriv": "util-linux", "setsid": "util-linux",
    "mount": "mount", "nft": "nftables",
}  # fmt: skip


class Plan(msgspec.Struct, frozen=True):
    """What `lab up` is to build."""

    name: str = layout.DEFAULT_NAME
    hosts: int = 2
    mode: Mode = "strict"
    workers: int = 2
    agents: bool = True
    """Whether agents are started. A host without one is in the catalog as a host that takes no tunnels."""
    backend: Backend = "auto"
    """What gets the rules of each host."""
    consul: str = ""
    """The program of a real Consul that is to be the catalog; empty: the embedded one is."""


def bring_up(plan: Plan, say: Say) -> None:
    """A new lab, whole: every agent healthy.

    Raises:
        LabError: there is one of that name, or something failed; says what and why.
    """
    layout.checked_name(plan.name)
    layout.checked_count(plan.hosts)
    _check_tools()
    with states.locked(plan.name, wait_s=0):
        state = _claim(plan)
        try:
            _build(state, plan, say)
        except BaseException:
            say("failed: removing what was made")
            teardown.remove_lab(plan.name)
            raise


def _check_tools() -> None:
    missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
    if missing:
        raise LabError(f"these Debian packages are missing: {' '.join(missing)}; run script/bootstrap")


def _claim(plan: Plan) -> LabState:
    """The lab's directory and first state file, so that whatever happens now can be found and removed."""
    with states.locked(""):
        if plan.name in teardown.names():
            raise LabError(
                f"lab {plan.name!r} is up already, or remains of it are; "
                f"see `nodeagent lab status`, remove it with `nodeagent lab down --name {plan.name}`"
            )
        subnet = layout.free_subnet(plan.name, states.taken_subnets())
        state = LabState(plan.name, subnet, plan.hosts, plan.mode, plan.workers, backend=plan.backend, consul=plan.consul)
        layout.lab_directory(plan.name).mkdir(mode=0o700)
        states.save_state(state)
        states.make_mount_points()
    return state


def _build(state: LabState, plan: Plan, say: Say) -> None:
    count = f"{plan.hosts} host{'s' if plan.hosts > 1 else ''}"
    say(f"network: {count}, {state.members[0].ipv4} and {state.members[0].ipv6} and up, on one bridge")
    state = _start_holders(state)
    chosen = catalog_of(state)
    say(f"catalog: {chosen.place}")
    chosen.start(say)
    for host in state.members:
        settings.write_host(state, host, chosen.introduce(host, say))
    if plan.agents:
        say(f"agents: one on each host, mode {plan.mode}; waiting until they are healthy")
        for host in state.members:
            agent.start_agent(host, state.holder(host))
        agent.wait_healthy(state.members, say)
    states.save_state(msgspec.structs.replace(state, ready=True))


def _start_holders(state: LabState) -> LabState:
    settings.make_hub_directories(state.hub)
    holders = {state.hub.name: holder.start_hub(state.hub)}
    for host in state.members:
        settings.make_directories(host)
        holders[host.name] = holder.start_host(host, holders[state.hub.name])
    state = msgspec.structs.replace(state, holders=holders)
    states.save_state(state)
    return state
