"""Refusals of identity material are one class that callers can catch as a bad value."""

import pytest

from certs.errors import CertificateError


def test_refusal_is_a_value_error_with_its_sentence():
    with pytest.raises(ValueError, match="no path"):
        raise CertificateError("no path")
