"""OIDC issuers whose discovery documents and keys are served at one address."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock

from broker.sandbox.keys import SigningKey

PUBLISHED_BELOW = "/.issuers"
"""No bucket's name begins with a dot."""


def discovery(issuer: str, *, jwks_uri: str, algorithms: Iterable[str]) -> dict[str, object]:
    return {
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": sorted(set(algorithms)),
    }


@dataclass(frozen=True, slots=True)
class IssuerLocation:
    """Where an issuer is found.

    Its discovery document is read below ``resolve_at``; ``thumbprint`` is its certificate's, where
    no public authority signed that.
    """

    resolve_at: str
    thumbprint: str | None = None


class Issuers:
    """AWS's issuers, served below ``url``, and the locations of foreign ones.

    ``url`` is known once the server listens.

    The real ones have hosts of their own: `resolve_at` maps an issuer to its address here.
    """

    def __init__(self) -> None:
        self.url = ""
        self._lock = Lock()
        self._keys: dict[str, tuple[SigningKey, ...]] = {}
        self._foreign: dict[str, IssuerLocation] = {}

    def publish(self, issuer: str, *keys: SigningKey) -> None:
        """Add *keys* to those that *issuer* publishes."""
        with self._lock:
            self._keys[issuer] = (*self._keys.get(issuer, ()), *keys)

    def add_foreign(self, issuer: str, location: IssuerLocation) -> None:
        with self._lock:
            self._foreign[issuer] = location

    def location_of(self, issuer: str) -> IssuerLocation | None:
        """Return where an issuer is found, a foreign one too."""
        own = self.resolve_at(issuer)
        return IssuerLocation(own) if own else self._foreign.get(issuer)

    def resolve_at(self, issuer: str) -> str | None:
        """Return the URL of *issuer*'s discovery, None when it is not published here."""
        return f"{self.url}{_path(issuer)}" if issuer in self._keys else None

    def document(self, path: str) -> dict[str, object] | None:
        """Return what is published at *path*, if anything."""
        for issuer, keys in self._keys.items():
            if path == f"{_path(issuer)}/.well-known/openid-configuration":
                jwks_uri = f"{self.url}{_path(issuer)}/.well-known/jwks.json"
                algorithms = [key.algorithm for key in keys]
                return discovery(issuer, jwks_uri=jwks_uri, algorithms=algorithms)
            if path == f"{_path(issuer)}/.well-known/jwks.json":
                return {"keys": [key.public_jwk() for key in keys]}
        return None


def _path(issuer: str) -> str:
    return f"{PUBLISHED_BELOW}/{issuer.removeprefix('https://')}"
