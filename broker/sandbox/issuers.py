"""OIDC issuers whose discovery documents and keys are read at one address. Signs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock

from broker.sandbox.keys import SigningKey

PUBLISHED_BELOW = "/.issuers"
"""No bucket's name begins with a dot, so this is in nobody's way."""


def discovery(issuer: str, *, jwks_uri: str, algorithms: Iterable[str]) -> dict[str, object]:
    return {
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": sorted(set(algorithms)),
    }


@dataclass(frozen=True, slots=True)
class Place:
    """Where an issuer is found: below which URL its discovery document is read, and the
    thumbprint of its certificate where that is of no public authority."""

    resolve_at: str
    thumbprint: str | None = None


class Issuers:
    """Every issuer of the AWS side, below ``url``, which is known once the server listens; of
    foreign ones the places.

    The real ones stand on hosts of their own; whoever verifies needs a table from issuer to
    address, and ``resolve_at`` is it.
    """

    def __init__(self) -> None:
        self.url = ""
        self._lock = Lock()
        self._keys: dict[str, tuple[SigningKey, ...]] = {}
        self._foreign: dict[str, Place] = {}

    def publish(self, issuer: str, *keys: SigningKey) -> None:
        """Publish *keys* beside those that *issuer* has already."""
        with self._lock:
            self._keys[issuer] = (*self._keys.get(issuer, ()), *keys)

    def add_foreign(self, issuer: str, place: Place) -> None:
        with self._lock:
            self._foreign[issuer] = place

    def place_of(self, issuer: str) -> Place | None:
        """Return where any issuer is found, foreign ones too."""
        own = self.resolve_at(issuer)
        return Place(own) if own else self._foreign.get(issuer)

    def resolve_at(self, issuer: str) -> str | None:
        """Return below which URL *issuer*'s discovery is read, None when nobody published it."""
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
