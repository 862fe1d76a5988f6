"""What an installation could leave on a host."""

from tests.hosts.support.host import Host

_COMMANDS = {  # without link-local routes, which the network card brings in its own time
    "rules": "nft list ruleset; ip rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all | grep -vE 'fe80|^multicast'",
    "sysctls": "sysctl -a 2>/dev/null | grep -E '^net[.](ipv4[.]tcp_fwmark|ipv[46][.]fwmark|ipv4[.]tcp_tw_reuse)'",
    "users": "getent passwd; getent group; grep -v ^root /etc/shadow | cut -d: -f1; cut -d: -f1 /etc/gshadow",
    "units": "systemctl list-unit-files --no-legend --no-pager | grep -v transient; systemctl list-units --no-legend --no-pager --plain --state=failed",
    "packages": "dpkg-query --show --showformat='${Package} ${Version} ${db:Status-Status}\\n'",
    # Not what every day changes on its own: logs, caches, and the package manager's and Ansible's own notes.
    "files": "find / -xdev ( -path /proc -o -path /sys -o -path /tmp -o -path /var/tmp -o -path /var/log -o -path /var/cache"
    " -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/lib/systemd -o -path /root/.ansible -o -name __pycache__ )"
    " -prune -o ! -name '*-' ! -name .pwd.lock -print; find /run/nodeagent /run/systemd/system.control 2>/dev/null",
}


def traces(host: Host) -> dict[str, list[str]]:
    """Rules, users, units, packages and files, sorted."""
    return {
        what: sorted(host.enter("sh", "-c", command.replace("( ", r"\( ").replace(" )", r" \)").replace("! ", r"\! ")).stdout.splitlines())
        for what, command in _COMMANDS.items()
    }


def differences(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    """Lines that came (+) and went (-)."""
    return [
        f"{what}: {sign}{line}"
        for what, lines in before.items()
        for sign, here, there in (("-", lines, after[what]), ("+", after[what], lines))
        for line in here
        if line not in set(there)
    ]
