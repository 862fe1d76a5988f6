"""Rules for HTTP requests in an intention's source, as they are enforced; what cannot be read, or not be met yet, denies."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from nodeagent import limits
from nodeagent.model.policy.intentions import Permission, Source

_Said = tuple[bytes, str, str, bool]


class Permitted(NamedTuple):
    """What a source may ask for."""

    permissions: tuple[Permission, ...] = ()
    note: str = ""
    """What they say that could not be kept."""


class PermissionReader:
    """Reads the permissions of one list after the other: what did not change is not read again. Owned by one watch."""

    def __init__(self) -> None:
        self._known: dict[_Said, Permitted] = {}
        self._met: dict[_Said, Permitted] = {}

    def read(self, said: Sequence[object], source: str, destination: str, *, has_jwt: bool) -> Permitted:
        """As `read_permissions`, which takes some 200 µs, and the sources of a large mesh have thousands."""
        key = msgspec.msgpack.encode(said), source, destination, has_jwt
        self._met[key] = found = self._known.get(key) or read_permissions(said, source, destination, has_jwt=has_jwt)
        return found

    def finish(self) -> None:
        """The list is through: what is not in it any more is forgotten."""
        self._known, self._met = self._met, {}


def read_permissions(said: Sequence[object], source: str, destination: str, *, has_jwt: bool) -> Permitted:
    """The permissions in Consul's words, in their order; none, with a note, where one of them is not understood.

    A key that is not known may be a further condition: without it an allow would be for more than was meant.
    has_jwt: the destination asks for a token, whoever calls.
    """
    from nodeagent.catalog.policy.fitting import fit  # noqa: PLC0415 - RE2, 3 MB that only such sources need
    from nodeagent.catalog.policy.intentions import source_faults  # noqa: PLC0415 - as above
    from nodeagent.catalog.policy.patterns import number_faults  # noqa: PLC0415 - as above

    spec, faults = fit({"Name": source, "Permissions": list(said)}, Source)
    faults += list(number_faults(spec)) or list(source_faults(spec, destination, ""))
    if faults:
        why = f"{source} -> {destination}: its permissions are not understood, and deny: {faults[0]}"
        return Permitted(note=why[: limits.CATALOG_NAME_CHARS])
    kept = tuple(_met(permission, has_jwt=has_jwt) for permission in spec.permissions)
    unmet = kept != spec.permissions and any(each.action != was.action for each, was in zip(kept, spec.permissions, strict=True))
    note = f"{source} -> {destination}: a JWT cannot be checked yet: permissions that ask for one deny what they match" if unmet else ""
    return Permitted(kept, note)


def needs_token(source: str, destination: str) -> str:
    """The note at a row that would allow whoever has one."""
    return f"{source} -> {destination}: a JWT cannot be checked yet: it counts as deny"


def _met(permission: Permission, *, has_jwt: bool) -> Permission:
    """The permission with methods as requests have them; an allow that asks for a token is a deny of all that it matches."""
    http = permission.http
    if http is not None and http.methods:
        http = msgspec.structs.replace(http, methods=tuple(method.upper() for method in http.methods))
    action = "deny" if has_jwt or permission.jwt is not None else permission.action
    return msgspec.structs.replace(permission, action=action, http=http)
