"""Looking at the rules of a network of our own."""

from pathlib import Path

import pytest

from nodeagent.probe import firewall
from redirect.libnftables import Nft
from tests.unit.nodeagent.probe.scene import elsewhere, scope


def test_a_table_that_bears_our_name_is_a_stray() -> None:
    """Seen twice, so that a comparison's own is none."""

    def look() -> tuple[tuple[str, ...], tuple[str, ...]]:
        before = firewall.rules(scope(is_pre=True)).twins
        with Nft() as nft:
            nft.run("add table inet nodeagent_stray; add table inet nodeagent_keeper")
        return before, firewall.rules(scope(is_pre=True)).twins

    assert elsewhere(look) == ((), ("inet nodeagent_stray",))


def test_what_others_redirect_is_found() -> None:
    """With its place."""

    def look() -> tuple[firewall.Redirection, ...]:
        with Nft() as nft:
            nft.run("table ip doctored { chain early { type nat hook output priority -150;\ntcp dport 1 redirect to :2\n}\n}\n")
        return firewall.redirections(scope())

    assert elsewhere(look) == (firewall.Redirection("ip doctored early", "tcp dport 1 redirect to :2", "output", -150),)


def test_managers_by_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ufw that is switched on; nftables.service that flushes."""
    conf, wanted, ufw = tmp_path / "nftables.conf", tmp_path / "wanted", tmp_path / "ufw.conf"
    for name, path in (("_NFTABLES_CONF", conf), ("_WANTED_BY", wanted), ("_UFW_CONF", ufw)):
        monkeypatch.setattr(firewall, name, path)
    assert not {"ufw", "nftables.service"} & {*firewall.managers(scope()).found}
    ufw.write_text("ENABLED=yes\n")
    conf.write_text("#!/usr/sbin/nft -f\nflush ruleset\n")
    assert {"ufw", "nftables.service"} & {*firewall.managers(scope()).found} == {"ufw"}
    wanted.touch()
    assert {"ufw", "nftables.service"} <= {*firewall.managers(scope()).found}


def test_a_plan_is_compared_only_where_it_is_wanted() -> None:
    """Not before an installation, and not while nothing is to be captured."""
    assert elsewhere(lambda: firewall.rules(scope(is_pre=True))).drift == ()
    off = elsewhere(lambda: firewall.rules(scope(more="[intercept]\nenabled = false\n")))
    assert (off.is_enabled, off.drift) == (False, ())
    assert any("nodeagent is missing" in sentence for sentence in elsewhere(lambda: firewall.rules(scope())).drift)
