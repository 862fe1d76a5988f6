"""The one way in which identity material is refused."""


class CertificateError(ValueError):
    """A SPIFFE ID, certificate, CSR or key that must not be used; the message says why in one sentence."""
