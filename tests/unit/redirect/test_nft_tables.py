"""What of the nft backend needs no rules in a kernel; the rest is in tests/e2e/test_redirect_*.py."""

from redirect.nft_tables import NftTables


def test_closing_twice_does_no_harm() -> None:
    """Once by the owner, once by its `with` block."""
    with NftTables() as tables:
        assert tables.emptied == ()
        tables.close()
