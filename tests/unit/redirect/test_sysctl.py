"""The one sysctl; writing it is tested on hosts of their own."""

from redirect.sysctl import KERNEL_DEFAULT, WANTED, read_fwmark_accept


def test_the_kernel_has_it() -> None:
    """Since Linux 3.15; it is a switch."""
    assert read_fwmark_accept() in (WANTED, KERNEL_DEFAULT)
