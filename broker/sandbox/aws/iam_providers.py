"""IAM's operations on OIDC providers.

Source: aws-api.md 6.2; IAM API reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from broker.sandbox.aws import constraints
from broker.sandbox.aws.accounts import Accounts
from broker.sandbox.aws.constraints import Params, check_length, sized
from broker.sandbox.aws.iam_paging import page, tag_list, wire_time
from broker.sandbox.aws.iam_records import ProviderRecord
from broker.sandbox.aws.operations import Operation, Signer, signed
from broker.sandbox.aws.query import ApiError, Result, members

_CLIENT_IDS, _THUMBPRINTS, _PROVIDERS = 100, 5, 100
_THUMBPRINT = re.compile(r"[0-9a-fA-F]{40}", re.ASCII)
_URL = re.compile(r"https://[A-Za-z0-9.-]+(?:/[^?#\s]*)?", re.ASCII)


class OidcProviders:
    """The operations. *reachable* tells whether an issuer's discovery document can be read."""

    def __init__(
        self, accounts: Accounts, *, now: Callable[[], datetime], reachable: Callable[[str], bool]
    ) -> None:
        self._accounts = accounts
        self._now = now
        self._reachable = reachable
        answers: Mapping[str, Callable[[Params, Signer], Result | None]] = {
            "CreateOpenIDConnectProvider": self._create,
            "GetOpenIDConnectProvider": self._get,
            "ListOpenIDConnectProviders": self._list,
            "AddClientIDToOpenIDConnectProvider": self._add_client_id,
            "RemoveClientIDFromOpenIDConnectProvider": self._remove_client_id,
            "UpdateOpenIDConnectProviderThumbprint": self._update_thumbprints,
            "TagOpenIDConnectProvider": self._tag,
            "UntagOpenIDConnectProvider": self._untag,
            "ListOpenIDConnectProviderTags": self._list_tags,
            "DeleteOpenIDConnectProvider": self._delete,
        }
        self.operations: Mapping[str, Operation] = {
            name: signed(answer) for name, answer in answers.items()
        }

    def _create(self, params: Params, signer: Signer) -> Result:
        url = sized(params, "Url", least=1, most=255)
        client_ids = _client_ids(params)
        thumbprints = _thumbprints(params)
        tags = constraints.tags(params)
        account = signer.identity.account
        arn = self._accounts.provider_arn(url, account=account)
        signer.require("iam:CreateOpenIDConnectProvider", resource=arn)
        if tags:
            signer.require("iam:TagOpenIDConnectProvider", resource=arn)
        if not _URL.fullmatch(url):
            raise ApiError("ValidationError", "Invalid Open ID Connect Provider URL")
        with self._accounts.lock:
            if self._accounts.provider(arn) is not None:
                raise ApiError("EntityAlreadyExists", f"Provider with url {url} already exists.")
            if len(self._accounts.providers(account)) >= _PROVIDERS:
                raise ApiError(
                    "LimitExceeded",
                    f"Cannot exceed quota for OpenIdConnectProvidersPerAccount: {_PROVIDERS}",
                )
            # Without a thumbprint IAM reads the issuer's certificate itself.
            if not thumbprints and not self._reachable(url):
                raise ApiError(
                    "OpenIdIdpCommunicationError", f"Failed to communicate with the issuer {url}"
                )
            self._accounts.put_provider(
                ProviderRecord(
                    arn=arn,
                    issuer=url,
                    account=account,
                    client_ids=client_ids,
                    created_at=self._now(),
                    thumbprints=thumbprints or (_FOUND_THUMBPRINT,),
                    tags=tags,
                )
            )
        return {"OpenIDConnectProviderArn": arn, **({"Tags": tag_list(tags)} if tags else {})}

    def _get(self, params: Params, signer: Signer) -> Result:
        provider = self._found(params, signer, "iam:GetOpenIDConnectProvider")
        return {
            "Url": provider.issuer.removeprefix("https://"),
            "ClientIDList": provider.client_ids,
            "ThumbprintList": provider.thumbprints,
            "CreateDate": wire_time(provider.created_at),
            "Tags": tag_list(provider.tags),
        }

    def _list(self, _: Params, signer: Signer) -> Result:
        account = signer.identity.account
        every = self._accounts.provider_arn("*", account=account)
        signer.require("iam:ListOpenIDConnectProviders", resource=every)
        listed = [{"Arn": one.arn} for one in self._accounts.providers(account)]
        return {"OpenIDConnectProviderList": listed}

    def _add_client_id(self, params: Params, signer: Signer) -> None:
        client_id = sized(params, "ClientID", least=1, most=255)
        with self._accounts.lock:
            provider = self._found(params, signer, "iam:AddClientIDToOpenIDConnectProvider")
            client_ids = tuple(dict.fromkeys((*provider.client_ids, client_id)))
            if len(client_ids) > _CLIENT_IDS:
                raise _quota("ClientIdsPerOpenIdConnectProvider", _CLIENT_IDS)
            self._accounts.put_provider(replace(provider, client_ids=client_ids))

    def _remove_client_id(self, params: Params, signer: Signer) -> None:
        client_id = sized(params, "ClientID", least=1, most=255)
        with self._accounts.lock:
            provider = self._found(params, signer, "iam:RemoveClientIDFromOpenIDConnectProvider")
            left = tuple(one for one in provider.client_ids if one != client_id)
            self._accounts.put_provider(replace(provider, client_ids=left))

    def _update_thumbprints(self, params: Params, signer: Signer) -> None:
        thumbprints = _thumbprints(params)
        with self._accounts.lock:
            provider = self._found(params, signer, "iam:UpdateOpenIDConnectProviderThumbprint")
            self._accounts.put_provider(replace(provider, thumbprints=thumbprints))

    def _tag(self, params: Params, signer: Signer) -> None:
        tags = constraints.tags(params)
        with self._accounts.lock:
            provider = self._found(params, signer, "iam:TagOpenIDConnectProvider")
            self._accounts.put_provider(replace(provider, tags={**provider.tags, **tags}))

    def _untag(self, params: Params, signer: Signer) -> None:
        gone = members(params, "TagKeys")
        with self._accounts.lock:
            provider = self._found(params, signer, "iam:UntagOpenIDConnectProvider")
            left = {key: value for key, value in provider.tags.items() if key not in gone}
            self._accounts.put_provider(replace(provider, tags=left))

    def _list_tags(self, params: Params, signer: Signer) -> Result:
        provider = self._found(params, signer, "iam:ListOpenIDConnectProviderTags")
        return page(params, "Tags", tag_list(provider.tags))

    def _delete(self, params: Params, signer: Signer) -> None:
        """Roles that name it keep their policies; a provider that is gone may be deleted again."""
        arn = _arn(params)
        signer.require("iam:DeleteOpenIDConnectProvider", resource=arn)
        with self._accounts.lock:
            if self._accounts.provider(arn) is not None:
                self._accounts.remove_provider(arn)

    def _found(self, params: Params, signer: Signer, action: str) -> ProviderRecord:
        arn = _arn(params)
        signer.require(action, resource=arn)
        provider = self._accounts.provider(arn)
        if provider is None or provider.account != signer.identity.account:
            raise ApiError("NoSuchEntity", f"OpenIDConnect Provider not found for arn {arn}")
        return provider


_FOUND_THUMBPRINT = "9e99a48a9960b14926bb7f3b02e22da2b0ab7280"
"""The thumbprint that IAM finds itself when none is given: any 40 digits do here."""


def _quota(name: str, most: int) -> ApiError:
    return ApiError("LimitExceeded", f"Cannot exceed quota for {name}: {most}")


def _arn(params: Params) -> str:
    arn = sized(params, "OpenIDConnectProviderArn", least=20, most=2048)
    if not re.fullmatch(r"arn:[a-z-]+:iam::\d{12}:oidc-provider/\S+", arn, re.ASCII):
        raise ApiError("InvalidInput", f"Invalid ARN: {arn}")
    return arn


def _client_ids(params: Params) -> tuple[str, ...]:
    client_ids = tuple(dict.fromkeys(members(params, "ClientIDList")))
    for client_id in client_ids:
        check_length(client_id, "ClientIDList", least=1, most=255)
    if len(client_ids) > _CLIENT_IDS:
        raise _quota("ClientIdsPerOpenIdConnectProvider", _CLIENT_IDS)
    return client_ids


def _thumbprints(params: Params) -> tuple[str, ...]:
    thumbprints = tuple(members(params, "ThumbprintList"))
    for thumbprint in thumbprints:
        check_length(thumbprint, "ThumbprintList", least=40, most=40)
        if not _THUMBPRINT.fullmatch(thumbprint):
            raise ApiError("InvalidInput", f"Thumbprint {thumbprint} is not hexadecimal")
    if len(thumbprints) > _THUMBPRINTS:
        raise ApiError("InvalidInput", f"Thumbprint list must contain at most {_THUMBPRINTS}.")
    return thumbprints
