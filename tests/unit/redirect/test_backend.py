"""Which backend is opened; which is chosen, on hosts that lack one or the other."""

import pytest

from redirect import backend
from redirect.elements import Elements
from redirect.errors import RedirectError
from redirect.iptables_elements import IptablesElements
from redirect.iptables_tables import IptablesTables
from redirect.libnftables import LibraryMissing
from redirect.nft_tables import NftTables
from redirect.settings import Settings

SETTINGS = Settings(agent_uids=(990,))


def test_each_backend_opens_its_own() -> None:
    """Rules and elements alike."""
    with backend.open_tables("nft") as nft, backend.open_tables("iptables") as iptables:
        assert (type(nft), type(iptables)) == (NftTables, IptablesTables)
    with backend.open_elements(SETTINGS) as elements:
        assert isinstance(elements, Elements)
    with backend.open_elements(Settings(agent_uids=(990,), backend="iptables")) as others:
        assert isinstance(others, IptablesElements)


def refuse(_: object, settings: Settings) -> None:
    """As a kernel, or a library, that cannot."""
    raise RedirectError(f"no table for {settings.agent_uids}")


def test_auto_takes_what_is_there_then_nft_then_iptables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has rules already goes on having them: two at once are refused."""
    monkeypatch.setattr(NftTables, "judge", lambda *_: None)
    monkeypatch.setattr(IptablesTables, "judge", lambda *_: None)
    monkeypatch.setattr(backend, "installed_backends", lambda: ("iptables",))
    assert backend.choose_backend(SETTINGS) == "iptables"
    monkeypatch.setattr(backend, "installed_backends", lambda: ())
    assert backend.choose_backend(SETTINGS) == "nft"
    monkeypatch.setattr(NftTables, "judge", refuse)
    assert backend.choose_backend(SETTINGS) == "iptables"
    monkeypatch.setattr(IptablesTables, "judge", refuse)
    with pytest.raises(RedirectError, match=r"no table for .990,.; nor does iptables do: no table"):
        backend.choose_backend(SETTINGS)


def test_a_host_without_libnftables_has_no_rules_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no failure where iptables has them."""

    def missing(_: object) -> None:
        raise LibraryMissing("libnftables.so.1 is missing")

    monkeypatch.setattr(NftTables, "__init__", missing)
    monkeypatch.setattr(IptablesTables, "is_installed", lambda _: True)
    assert backend.installed_backends() == ("iptables",)
