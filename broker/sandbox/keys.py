"""Signing keys, and the JWTs and JWKS made with them."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

_CURVES: Mapping[str, type[ec.EllipticCurve]] = {
    "ES256": ec.SECP256R1,
    "ES384": ec.SECP384R1,
    "ES512": ec.SECP521R1,
}


class SigningKey:
    """One private key, made now; *algorithm* is ES256, ES384, ES512, RS256, RS384 or RS512."""

    def __init__(self, algorithm: str, *, kid: str | None = None) -> None:
        self.algorithm = algorithm
        self.kid = kid or uuid.uuid4().hex
        self._private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
        if algorithm in _CURVES:
            self._private = ec.generate_private_key(_CURVES[algorithm]())
        else:
            self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def sign(self, claims: Mapping[str, object], *, typ: str = "JWT") -> str:
        headers = {"kid": self.kid, "typ": typ}
        return jwt.encode(dict(claims), self._private, algorithm=self.algorithm, headers=headers)

    def verify(self, token: str) -> dict[str, Any]:
        """Return the claims of a token of this key; checking them is up to the caller.

        Raises:
            jwt.PyJWTError: It is no JWT, or another key's.
        """
        return claims_of(token, key=self._private.public_key(), algorithm=self.algorithm)

    def public_jwk(self) -> dict[str, object]:
        public = self._private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            jwk: dict[str, object] = dict(RSAAlgorithm.to_jwk(public, as_dict=True))
        else:
            jwk = dict(ECAlgorithm.to_jwk(public, as_dict=True))
        jwk.pop("key_ops", None)
        return jwk | {"kid": self.kid, "alg": self.algorithm, "use": "sig"}


def claims_of(token: str, *, key: Any, algorithm: str) -> dict[str, Any]:
    """Verify only the signature: PyJWT would compare times with its own clock."""
    options: Any = {
        "verify_signature": True,
        **dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat", "verify_aud"), False),
        **dict.fromkeys(("verify_iss", "verify_sub", "verify_jti"), False),
    }
    claims: dict[str, Any] = jwt.decode(token, key=key, algorithms=[algorithm], options=options)
    return claims


def unpadded_base64(text: str) -> str:
    """Encode as a token spec is: standard alphabet, no ``=``. Source: namespace-api.md 5."""
    return base64.b64encode(text.encode()).decode().rstrip("=")


def compact_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
