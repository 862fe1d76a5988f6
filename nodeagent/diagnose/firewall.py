"""Judgements on packet filter rules: ours, and other people's that meet the same connections."""

from collections.abc import Iterator

from nodeagent.diagnose.facts import Managers, Redirection, Rules
from nodeagent.diagnose.finding import Verdict, fail, warn, well

_OUT_PRIORITY, _PRE_PRIORITY = -101, -150
"""Where our rules redirect what leaves, and what arrives; as in redirect."""
_GONE = "the interception rules are not there: nothing is captured, calls go in clear as without an agent"
_START = "where the agent runs, it puts them back by itself; else, if it is to run: systemctl start nodeagent"
_MANAGERS = {
    "firewalld": ("its reload leaves nodeagent's table alone", "allow tunnels, and ports of services to callers in clear: firewall-cmd --permanent --add-port=15008/tcp && firewall-cmd --reload"),
    "docker": ("containers are no workloads of the mesh; its port forwarding comes after nodeagent's rules", "register no service at a port that docker publishes"),
    "ufw": ("its reload leaves nodeagent's table alone", "allow tunnels, and ports of services to callers in clear: ufw allow 15008/tcp"),
    "nftables.service": ("its reload flushes every table, nodeagent's too, until the agent puts it back", "replace `flush ruleset` in /etc/nftables.conf by `flush table` for each of its own tables"),
}  # fmt: skip


def judge_rules(rules: Rules) -> Iterator[Verdict]:
    """Installed as planned, once, and nothing left over."""
    if len(rules.backends) > 1:
        yield fail(f"rules of {' and '.join(rules.backends)} are installed at once", "nodeagent intercept remove --now && nodeagent intercept apply")
    for name in rules.twins:
        yield warn(f"the table {name} bears nodeagent's name and is not one of its rules", f"nft delete table {name}")
    if not rules.is_enabled:
        yield _judge_disabled(rules)
    elif rules.drift and not rules.is_capturing:
        yield fail(_GONE, _START)  # and not a dozen times to apply them, which on a host without an agent would have them refuse calls
    else:
        yield from (fail(sentence, "nodeagent intercept apply") for sentence in rules.drift)
        if not rules.drift:
            yield well(f"the interception rules are as planned ({rules.backends[0]})" if rules.backends else "no interception rule is installed yet")


def _judge_disabled(rules: Rules) -> Verdict:
    if rules.is_capturing:
        return fail("intercept.enabled is false, and rules are installed", "systemctl reload nodeagent; where no agent runs: nodeagent intercept remove")
    if rules.backends:
        return warn("intercept.enabled is false, and what connections of before need is still installed", "none while the agent runs: it goes with the last of them; else nodeagent intercept remove")
    return warn("intercept.enabled is false: nothing is captured on this host", "set it to true when the mesh is to take over")


def judge_redirections(found: tuple[Redirection, ...]) -> Iterator[Verdict]:
    """Other meshes capture the same connections; whatever comes before ours takes them from us."""
    for rule in found:
        yield _judge_redirection(rule)
    if not found:
        yield well("nobody else redirects connections")


def _judge_redirection(found: Redirection) -> Verdict:
    text = f"{found.place}: {found.rule}"
    if found.mesh:
        return fail(f"{text} (of {found.mesh}, which captures the same connections)", f"take {found.mesh}'s rules away: two meshes cannot share a host")
    if found.hook and found.priority <= (_OUT_PRIORITY if found.hook == "output" else _PRE_PRIORITY):
        return fail(f"{text} (comes before nodeagent's rules, at priority {found.priority})", "remove it, or give its chain a priority of -100 or more")
    return warn(f"{text} (meets what nodeagent lets by)", "make sure that it means no service of the mesh: nft list ruleset")


def judge_managers(managers: Managers) -> Iterator[Verdict]:
    """What else changes rules here."""
    for name in managers.found:
        what, cure = _MANAGERS[name]
        yield warn(f"{name} is in use: {what}", cure)
    if not managers.found:
        yield well("neither firewalld, docker, ufw nor nftables.service with a flush")
