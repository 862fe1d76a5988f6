"""Key material as it travels from control to the workers, in memory only."""

import msgspec


class SvidKeys(msgspec.Struct, frozen=True):
    """A service's certificate chain and private key. Never logged: its repr shows the name alone."""

    service: str
    chain_pem: str
    key_pem: str
    not_after: float
    """Unix seconds."""
    serial: str = ""
    not_before: float = 0.0
    """Unix seconds."""

    def __repr__(self) -> str:
        return f"SvidKeys({self.service!r}, serial={self.serial!r})"


class KeyRing(msgspec.Struct, frozen=True):
    """All that a worker needs to open and accept tunnels."""

    trust_domain: str
    bundle_pem: str
    """The mesh's root certificates, one after another: several during a rotation."""
    svids: tuple[SvidKeys, ...] = ()
    revoked: tuple[str, ...] = ()
    """Tags of serials: a certificate whose serial begins with one is refused, and tunnels that it opened are cut."""
