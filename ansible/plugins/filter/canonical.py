"""One spelling for one address, as the catalog has it: FD00::1 and fd00:0::1 are fd00::1."""  # noqa: INP001 - Ansible loads it by its path

import ipaddress

from ansible.errors import AnsibleFilterError

DOCUMENTATION = """
name: canonical
short_description: One spelling for one address
description: As the catalog spells addresses and CIDRs, so that what it has can be compared with what an inventory says.
options:
  _input:
    description: An IP address or a CIDR; empty text stays what it is.
    type: str
    required: true
"""
EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ ['FD00::1'] | map('nodeagent.mesh.canonical') }}"
"""
RETURN = """
_value:
  description: The same address or CIDR.
  type: str
"""


def canonical(text: str) -> str:
    """The one spelling of an address or CIDR.

    Raises:
        AnsibleFilterError: it is neither.
    """
    try:
        network = ipaddress.ip_network(text) if text else ""
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error
    return str(network).removesuffix(f"/{network.max_prefixlen}") if network else ""


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, object]:
        """By name."""
        return {"canonical": canonical}
