"""The environment variables that make AWS clients and nsc use what we serve.

Source: sdk-client-contract C-79 to C-86.
"""

from __future__ import annotations

import os

from broker import aws
from broker.cli.errors import Failure, Misuse
from broker.files import locations
from broker.files.private import write_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

TOKEN_FILE = "container.token"  # noqa: S105 - the name of a file
TOKEN_FILE_VARIABLE = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105
DEFAULT_IMDS = f"http://{aws.METADATA_HOST}"
KEPT_FROM_PROXIES = (*aws.METADATA_HOSTS, "127.0.0.1", "localhost", "::1")
# C-82: what every client takes, most widely taken first.
CONTAINER_HOSTS = (
    "127.0.0.1",
    aws.CONTAINER_HOST,
    aws.POD_HOST,
    "[::1]",
    f"[{aws.POD_HOST_V6}]",
)

PREFERRED_TO_OURS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
"""Every client uses one of these before an endpoint (C-86)."""
CONTAINER_URIS = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
CONTAINER_TOKENS = (
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)
IMDS_ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
IMDS_ENDPOINT_MODE = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"


class Variables:
    """The variables to set, and those to unset.

    ``must_go`` are unset everywhere (C-86), ``should_go`` only where a variable can be unset rather
    than emptied. The notes are comments for the reader of the file.
    """

    __slots__ = ("docker_note", "must_go", "note", "set", "should_go")

    def __init__(
        self,
        assigned: Mapping[str, str],
        *,
        must_go: tuple[str, ...] = (),
        should_go: tuple[str, ...] = (),
        note: str = "",
        docker_note: str = "",
    ) -> None:
        self.set = assigned
        self.must_go = must_go
        self.should_go = should_go
        self.note = note
        self.docker_note = docker_note

    @property
    def gone(self) -> tuple[str, ...]:
        return self.must_go + self.should_go

    def also(self, other: Variables) -> Variables:
        """Return these and *other*'s variables."""
        return Variables(
            {**self.set, **other.set},
            must_go=self.must_go + other.must_go,
            should_go=self.should_go + other.should_go,
            note=self.note or other.note,
            docker_note=self.docker_note or other.docker_note,
        )

    def over(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return *environ* with these set and the unwanted ones removed."""
        kept = {name: value for name, value in environ.items() if name not in self.gone}
        return kept | dict(self.set)


def container_variables(
    client: Mapping[str, Any],
    *,
    role: str | None,
    token_file: str | None,
    environ: Mapping[str, str],
) -> Variables:
    """Return the variables for the container endpoint.

    Args:
        client: The broker's answer to ``/v1/client``.
        role: The role by name; None is the caller's default.
        token_file: This caller's copy of the token, None for none.
        environ: The present environment, to merge with.

    Raises:
        Failure: The broker has no container endpoint.
    """
    urls = [url.rstrip("/") for url in client.get("container") or ()]
    if not urls:
        raise Failure("--surface", "the broker serves no container endpoint", "use --surface imds")
    path = "/v1/credentials" if role is None else f"/role/{role}"
    return Variables(
        {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": best_container(urls) + path,  # C-82, C-84
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": str(client["container_token"]),  # C-83
            **({} if token_file is None else {TOKEN_FILE_VARIABLE: token_file}),
            **region_variables(client.get("region")),
            **proxy_variables(environ),
        },
        must_go=PREFERRED_TO_OURS,
        should_go=(
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",  # C-84
            # One of another broker would be read before our value.
            *(("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",) if token_file is None else ()),
        ),
        docker_note="docker run --network host --env-file FILE IMAGE, as any user of the image",
    )


def imds_variables(
    client: Mapping[str, Any], *, role: str | None, environ: Mapping[str, str]
) -> Variables:
    """Return the variables for the instance metadata endpoint; arguments as above.

    Raises:
        Misuse: The role is not the default: IMDS has no way to ask for another.
        Failure: The broker has no such endpoint.
    """
    if role is not None and role != client.get("default_role"):
        raise Misuse(
            "--role",
            f"{role} is not your default role, and instance metadata offers no other",
            "use --surface container",
        )
    urls = [url.rstrip("/").removesuffix(":80") for url in client.get("imds") or ()]
    if not urls:
        raise Failure(
            "--surface",
            "the broker serves no instance metadata",
            "start it with --imds 127.0.0.1:0, or use --surface container",
        )
    found_by_default = DEFAULT_IMDS in urls
    url = DEFAULT_IMDS if found_by_default else urls[0]
    # aws-sdk-php takes the default address by default only, and not with a slash: C-79.
    pointer = {} if found_by_default else {IMDS_ENDPOINT: f"{url}/"}
    return Variables(
        {
            **pointer,
            "AWS_METADATA_ENDPOINT": url,  # C-80
            "CPL_AWS_EC2_API_ROOT_URL": url,
            "CPL_AWS_AUTODETECT_EC2": "NO",
            **({} if client.get("imds_v1") else {"AWS_EC2_METADATA_V1_DISABLED": "true"}),  # C-85
            **region_variables(client.get("region")),
            **proxy_variables(environ),
        },
        must_go=PREFERRED_TO_OURS,
        should_go=(
            *CONTAINER_URIS,
            *CONTAINER_TOKENS,
            "AWS_EC2_METADATA_DISABLED",  # C-85: never set, not even to false
            *((IMDS_ENDPOINT, IMDS_ENDPOINT_MODE) if found_by_default else (IMDS_ENDPOINT_MODE,)),
        ),
    )


def namespace_variables(namespace: Mapping[str, Any]) -> Variables:
    """Return the variables for nsc and the Namespace SDKs.

    nsc prefers the spec; the SDKs read files only.

    Args:
        namespace: ``namespace`` in ``/v1/client``: ``token_file`` and ``token_spec``, None where
            the token is not exported that way.

    Source: namespace-api 2.3.
    """
    file, spec = namespace.get("token_file"), namespace.get("token_spec")
    assigned = {"NSC_TOKEN_SPEC": spec, "NSC_TOKEN_FILE": file}
    preferred_to_ours = () if spec or not file else ("NSC_TOKEN_SPEC", "NSC_TOKEN_SPEC_FILE")
    return Variables(
        {name: str(value) for name, value in assigned.items() if value}, must_go=preferred_to_ours
    )


def static_variables(credentials: Mapping[str, Any], *, region: str | None) -> Variables:
    """Return the keys themselves. *credentials* is the container document."""
    return Variables(
        {
            "AWS_ACCESS_KEY_ID": str(credentials["AccessKeyId"]),
            "AWS_SECRET_ACCESS_KEY": str(credentials["SecretAccessKey"]),
            "AWS_SESSION_TOKEN": str(credentials["Token"]),
            "AWS_CREDENTIAL_EXPIRATION": str(credentials["Expiration"]),
            **region_variables(region),
        },
        must_go=("AWS_PROFILE",),
        note=f"these keys of {credentials['RoleArn']} expire at {credentials['Expiration']}",
    )


def region_variables(region: object) -> dict[str, str]:
    """Return the region in both names; botocore reads only the second (C-85)."""
    if not isinstance(region, str):
        return {}
    return {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}


def best_container(urls: list[str]) -> str:
    for host in CONTAINER_HOSTS:
        for url in urls:
            if host_of(url) == host:
                return url
    return urls[0]


def host_of(url: str) -> str:
    """Return the host part of ``http://HOST[:PORT]``, brackets and all."""
    authority = url.partition("://")[2]
    return authority.partition("]")[0] + "]" if "]" in authority else authority.partition(":")[0]


def proxy_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return both spellings of the list of hosts without a proxy, ours added (C-81)."""
    existing = [
        entry.strip()
        for name in ("NO_PROXY", "no_proxy")
        for entry in environ.get(name, "").split(",")
        if entry.strip()
    ]
    # A lone star means everything, and only alone.
    hosts = "*" if "*" in existing else ",".join(unique([*existing, *KEPT_FROM_PROXIES]))
    return {"NO_PROXY": hosts, "no_proxy": hosts}


def unique(entries: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(entries))


def variables_for(
    client: Mapping[str, Any],
    surface: str | None,
    *,
    role: str | None,
    environ: Mapping[str, str],
    with_token_file: bool = True,
) -> Variables:
    """Return the variables for one surface and for Namespace's tools.

    With *with_token_file* the container endpoint's token is written to a file of ours too.

    Raises:
        Failure: There is no such surface, or the token cannot be written.
    """
    namespace = namespace_variables(client.get("namespace") or {})
    # A caller without a role keeps its own AWS credentials.
    if namespace.set and not client.get("roles"):
        return namespace
    if surface == "imds":
        return imds_variables(client, role=role, environ=environ).also(namespace)
    path = token_path(environ) if with_token_file else None
    found = container_variables(client, role=role, token_file=path, environ=environ)
    if path is not None:
        write_token(path, str(client["container_token"]))
    return found.also(namespace)


def token_path(environ: Mapping[str, str]) -> str:
    return os.path.join(locations.commands_dir(environ, os.getuid()), TOKEN_FILE)


def write_token(path: str, token: str) -> None:
    directory = os.path.dirname(path)
    try:
        locations.make_private_dir(directory, os.getuid())
        write_private(path, token, durable=False)
    except locations.UntrustedDirectory as error:
        raise Failure(
            "XDG_RUNTIME_DIR", f"{error}, so no token is written there", "set it to your own"
        ) from error
    except OSError as error:
        raise Failure(
            path, f"cannot be written ({error.strerror})", "set XDG_RUNTIME_DIR to your own"
        ) from error
