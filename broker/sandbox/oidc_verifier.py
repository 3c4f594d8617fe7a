"""Verify an ID token over HTTP: discovery, JWKS, signature."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import jwt

from broker.sandbox.keys import claims_of

_ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
_MAX_BYTES = 1 << 20


class NotAToken(Exception):
    """The text is not a JWT, or not one that is supported."""


class KeyUnavailable(Exception):
    """The issuer did not give the key in time, or has no such key."""


class UnknownKey(KeyUnavailable):
    """The issuer does not publish this key."""


class BadSignature(Exception):
    """The issuer's key did not sign this."""


def unverified_claims(token: str) -> dict[str, Any]:
    """Return the claims, unverified, to learn the issuer.

    Raises:
        NotAToken: It does not parse, or its algorithm is not one that AWS takes.
    """
    try:
        header = jwt.get_unverified_header(token)
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError) as error:
        raise NotAToken(str(error)) from None
    if header.get("alg") not in _ALGORITHMS:
        raise NotAToken(f"algorithm {header.get('alg')!r} is not supported")
    return claims


async def verified_claims(
    token: str,
    *,
    issuer: str,
    resolve_at: str,
    session: aiohttp.ClientSession,
    timeout_s: float,
) -> dict[str, Any]:
    """Verify the signature with the key that the issuer publishes under *resolve_at*.

    Times and audience are for the caller to check.

    Raises:
        KeyUnavailable: No answer within *timeout_s*, no proper one, or (UnknownKey) no such
            key in it.
        BadSignature: Somebody else signed it.
    """
    header = jwt.get_unverified_header(token)
    try:
        async with asyncio.timeout(timeout_s):
            document = await _json(session, f"{resolve_at}/.well-known/openid-configuration")
            if document.get("issuer") != issuer:
                raise KeyUnavailable(f"discovery is of {document.get('issuer')!r}")
            jwks = await _json(session, str(document.get("jwks_uri")))
            # PyJWT takes an empty set for none.
            keys = jwt.PyJWKSet.from_dict(jwks).keys if jwks.get("keys") != [] else []
    except (TimeoutError, aiohttp.ClientError, ValueError, jwt.PyJWTError) as error:
        raise KeyUnavailable(str(error)) from error
    for key in keys:
        if key.key_id == header.get("kid"):
            try:
                return claims_of(token, key=key.key, algorithm=header["alg"])
            except (jwt.PyJWTError, TypeError, ValueError) as error:
                raise BadSignature(str(error)) from error
    raise UnknownKey("the issuer publishes no such key")


async def _json(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url) as response:
        if response.status != 200:
            raise KeyUnavailable(f"{url} answered {response.status}")
        body = await response.content.read(_MAX_BYTES)
        while not response.content.at_eof():
            body += await response.content.read(_MAX_BYTES)
            if len(body) > _MAX_BYTES:
                raise KeyUnavailable(f"{url} answered more than {_MAX_BYTES} bytes")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise KeyUnavailable(f"{url} did not answer a JSON object")
    return document
