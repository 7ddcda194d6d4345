"""The gateway's certificate: loaded at start with a clear word where it cannot be, and again when it was renewed.

Knows files and Python's ssl only. TLS 1.2 or later, by the ciphers that Python thinks safe.
"""

import ssl
from pathlib import Path

from gateway.settings import Settings


class CertificateError(Exception):
    """A file of PCBD_TLS_* cannot be used; the message says which and why."""


class Certificate:
    """The certificate and key of the settings, and what connections are made with.

    Raises:
        CertificateError: they cannot be read, or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self.context = self._load()

    @classmethod
    def of(cls, settings: Settings) -> "Certificate | None":
        """That of the settings, None where there is none: HTTP without TLS."""
        if settings.tls_certificate is None or settings.tls_key is None:
            return None
        return cls(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)

    def reload(self) -> None:
        """Uses what the files hold now for new connections; the authority of clients stays until a restart.

        Raises:
            CertificateError: as at the start; what was used before goes on being used.
        """
        self._load()  # first aside: what fails halfway would leave a certificate with the key of another
        self.context.load_cert_chain(self._certificate, self._key, _no_password)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._certificate, self._key, _no_password)
        except (OSError, ValueError) as error:
            raise CertificateError(
                f"PCBD_TLS_CERTIFICATE={self._certificate} and PCBD_TLS_KEY={self._key} cannot be used: "
                f"{_cause(error)}; expected the certificate's chain and its own key, unencrypted, each as PEM"
            ) from error
        if self._client_ca is not None:
            try:
                context.load_verify_locations(self._client_ca)
            except OSError as error:
                raise CertificateError(
                    f"PCBD_TLS_CLIENT_CA={self._client_ca} cannot be used: {_cause(error)}; expected the certificate "
                    "of the authority that signed those of the clients, as PEM"
                ) from error
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # instead of asking at a terminal that nobody watches


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)
