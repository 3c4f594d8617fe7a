"""SDKs whose home and environment name another identity: `exec` and `env --isolate` set it aside.

Source: sdk-client-contract C-86; each SDK has its own order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from broker.sandbox import Sandbox
from tests.support.client_sandbox import World
from tests.support.clients import BOTO3, Client, Ran, run
from tests.support.proof import Arrivals

KEYS = "aws_access_key_id = AKIAOTHER\naws_secret_access_key = of-another\n"
SSO = "sso_account_id = 123456789012\nsso_role_name = other\n"
SSO_SITE = "sso_start_url = https://sso.example.invalid\nsso_region = us-east-1\n"
ROLE = "role_arn = arn:aws:iam::123456789012:role/other\n"
PROCESS = """credential_process = echo '{"Version": 1, "AccessKeyId": "AKIAOTHER",\
 "SecretAccessKey": "of-another"}'\n"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """Another identity, as a user's home and environment have it; ~ in a value is the home.

    Clients of *ignored_by* do not read it, or pass over it since it fails.
    """

    credentials: str = ""
    config: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    ignored_by: tuple[str, ...] = ()

    def settle(self, home: Path) -> dict[str, str]:
        """Write its files to *home*; return its variables."""
        (home / ".aws").mkdir()
        (home / "token").write_text("the token of a pod")
        for name, text in (("credentials", self.credentials), ("config", self.config)):
            if text:
                (home / ".aws" / name).write_text(text.replace("~", str(home)))
        values = {name: value.replace("~", str(home)) for name, value in self.variables.items()}
        return {**values, "HOME": str(home)}


OTHERS: Mapping[str, Other] = {
    "keys in the credentials file": Other(credentials=f"[default]\n{KEYS}"),
    "keys in the configuration": Other(config=f"[default]\n{KEYS}"),
    "a role by another profile's keys": Other(
        config=f"[default]\n{ROLE}source_profile = base\n\n[profile base]\n{KEYS}"
    ),
    "a role by keys of the credentials file": Other(
        config=f"[default]\n{ROLE}source_profile = base\n", credentials=f"[base]\n{KEYS}"
    ),
    "a role by a web identity in the configuration": Other(
        config=f"[default]\n{ROLE}web_identity_token_file = ~/token\n",
        ignored_by=("java-sdk-v2",),
    ),
    "an sso session": Other(
        config=f"[default]\n{SSO}sso_session = mine\n\n[sso-session mine]\n{SSO_SITE}",
        ignored_by=("java-sdk-v2",),
    ),
    "sso without a session": Other(
        config=f"[default]\n{SSO}{SSO_SITE}", ignored_by=("java-sdk-v2",)
    ),
    "a process": Other(config=f"[default]\n{PROCESS}"),
    "AWS_PROFILE and keys in the credentials file": Other(
        credentials=f"[work]\n{KEYS}", variables={"AWS_PROFILE": "work"}
    ),
    "AWS_PROFILE and a process": Other(
        config=f"[profile work]\n{PROCESS}", variables={"AWS_PROFILE": "work"}
    ),
    "AWS_PROFILE of no profile": Other(
        variables={"AWS_PROFILE": "gone"}, ignored_by=("js-sdk-v3", "java-sdk-v2")
    ),
    "AWS_DEFAULT_PROFILE": Other(
        credentials=f"[work]\n{KEYS}",
        variables={"AWS_DEFAULT_PROFILE": "work"},
        ignored_by=("js-sdk-v3", "java-sdk-v2"),
    ),
    "a pod's web identity": Other(
        variables={
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/other",
            "AWS_WEB_IDENTITY_TOKEN_FILE": "~/token",
        },
        ignored_by=("java-sdk-v2",),
    ),
    "keys in variables": Other(
        variables={"AWS_ACCESS_KEY_ID": "AKIAOTHER", "AWS_SECRET_ACCESS_KEY": "of-another"}
    ),
}

WAYS: Mapping[str, str] = {
    "exec": 'exec namespace-broker exec --runtime-dir "$0" -- "$@"',
    "env": 'eval "$(namespace-broker env --isolate --runtime-dir "$0")"; exec "$@"',
    "env of imds": (
        'eval "$(namespace-broker env --isolate --surface imds --runtime-dir "$0")"; exec "$@"'
    ),
}


@pytest.fixture(params=["boto3", "js_sdk", "go_sdk", "java_sdk"])
def any_client(request: pytest.FixtureRequest) -> Client:
    if request.param == "boto3":
        return BOTO3
    named: Client = request.getfixturevalue(request.param)
    return named


@pytest.fixture
def environ(world: World, tmp_path: Path, other: Other) -> dict[str, str]:
    """The environment of a shell whose user is *other* to AWS."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    return world.bare_environment() | {"XDG_RUNTIME_DIR": str(runtime)} | other.settle(tmp_path)


@pytest.fixture(params=OTHERS.values(), ids=list(OTHERS))
def other(request: pytest.FixtureRequest) -> Other:
    given: Other = request.param
    return given


def is_served(ran: Ran, arrivals: Arrivals, sandbox: Sandbox) -> bool:
    """Return whether a client had an answer, and signed with keys that the broker obtained."""
    ours = {keys.access_key_id for keys in sandbox.aws.issued}
    return ran.code == 0 and {call.access_key_id for call in arrivals.calls} <= ours


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_client_signs_with_the_brokers_keys_all_the_same(
    world: World, environ: dict[str, str], any_client: Client, way: str
) -> None:
    arrivals = Arrivals(world.sandbox)

    ran = run("sh", "-c", way, str(world.broker.runtime_dir), *any_client.argv, environ=environ)

    assert ran.code == 0, ran.errors
    assert arrivals.served(any_client.operation)


def test_with_our_address_alone_the_other_identity_comes_first(
    world: World, environ: dict[str, str], any_client: Client, other: Other
) -> None:
    """Else the test above would pass though nothing is set aside."""
    arrivals = Arrivals(world.sandbox)

    ran = any_client.run(world.broker.tells_clients(surface="container") | environ)

    served = is_served(ran, arrivals, world.sandbox)
    assert served is (any_client.name in other.ignored_by), ran.errors
