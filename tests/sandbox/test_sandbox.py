"""The sandbox as a whole: in a thread, as a process, and what it tells brokers and clients."""

import json
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import boto3
import pytest
from aiobotocore.session import get_session

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.sandbox_clients import assume, rpc

ISSUE = "nsl.tenants.TenantsService/IssueIdToken"
EXCHANGE = "nsl.tenants.TenantsService/ExchangeOIDCToken"
EXCHANGE_COGNITO = "nsl.tenants.TenantsService/ExchangeAWSCognitoJWT"


async def test_the_whole_way_from_a_namespace_token_to_credentials(sandbox: Sandbox) -> None:
    bearer = sandbox.namespace.workload_token()

    _, body, _ = await rpc(
        sandbox, ISSUE, {"audience": "sts.amazonaws.com", "version": 1}, bearer=bearer
    )
    answer = await assume(sandbox, WebIdentityToken=body["id_token"])

    assert answer.status == 200
    assert [call.operation for call in sandbox.namespace.calls] == [
        "IssueIdToken",
        "openid-configuration",
        "jwks",
    ]


async def test_what_is_to_be_set_names_only_this_sandbox(sandbox: Sandbox) -> None:
    endpoints = {
        "AWS_ENDPOINT_URL_STS": sandbox.aws.url,
        "AWS_ENDPOINT_URL_IAM": sandbox.aws.url,
        "AWS_ENDPOINT_URL_COGNITO_IDENTITY": sandbox.aws.url,
    }
    keys = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    workload = sandbox.aws_environment(sandbox.guide_by_sts())

    assert sandbox.environment() == {"NSC_IAM_ENDPOINT": sandbox.namespace.url, **endpoints}
    assert workload.items() >= endpoints.items()
    assert workload.keys() - endpoints.keys() == keys | {"AWS_REGION", "AWS_DEFAULT_REGION"}
    assert sandbox.client_environment() == {
        "AWS_ENDPOINT_URL": sandbox.aws.url,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    assert sandbox.aws.url.startswith("http://127.0.0.1:")


async def test_the_environment_of_a_workload_is_enough_to_log_in_by_sts(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in sandbox.aws_environment(sandbox.guide_by_sts()).items():
        monkeypatch.setenv(name, value)

    async with get_session().create_client("sts") as signed:
        answer = await signed.get_web_identity_token(
            Audience=["https://federation.namespaceapis.com"], SigningAlgorithm="ES384"
        )
    status, _, _ = await rpc(sandbox, EXCHANGE, {"oidc_token": answer["WebIdentityToken"]})

    assert status == 200


async def test_the_environment_of_a_workload_is_enough_to_log_in_by_cognito(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn, pool_id = sandbox.guide_by_cognito()
    for name, value in sandbox.aws_environment(arn).items():
        monkeypatch.setenv(name, value)

    async with get_session().create_client("cognito-identity") as signed:
        answer = await signed.get_open_id_token_for_developer_identity(
            IdentityPoolId=pool_id, Logins={"namespace.so": "ws_1"}
        )
    params = {"tenant_id": "ws_1", "aws_cognito_token": answer["Token"]}
    status, _, _ = await rpc(sandbox, EXCHANGE_COGNITO, params)

    assert status == 200


async def test_both_ways_of_the_guide_can_be_gone_by_one_role(sandbox: Sandbox) -> None:
    by_sts = sandbox.guide_by_sts(path="/ci/")
    by_cognito, pool_id = sandbox.guide_by_cognito(path="/ci/", region="eu-west-1")

    assert by_sts == by_cognito == "arn:aws:iam::123456789012:role/ci/builder"
    assert pool_id.startswith("eu-west-1:")
    assert len(sandbox.aws.policies_of(by_sts)) == 2
    assert sandbox.namespace.trusted_pools() == {(pool_id, "namespace.so")}
    assert sandbox.namespace.trust_relationships()[0]["subject_match"] == by_sts


async def test_a_second_account_trusts_by_a_provider_of_its_own(sandbox: Sandbox) -> None:
    sandbox.aws.add_provider(
        sandbox.namespace.issuer,
        client_ids=("sts.amazonaws.com",),
        resolve_at=sandbox.namespace.url,
        account="210987654321",
    )
    trust = json.loads(json.dumps(sandbox.guide_trust()).replace("123456789012", "210987654321"))
    role = sandbox.aws.add_role("other", trust_policy=trust, account="210987654321", path="/x/")

    answer = await assume(sandbox, RoleArn=role)

    assert role == "arn:aws:iam::210987654321:role/x/other"
    assert answer.texts["Arn"].startswith("arn:aws:sts::210987654321:assumed-role/other/")


async def test_two_sandboxes_know_nothing_of_each_other(sandbox: Sandbox) -> None:
    async with Sandbox(workspace="ws_2") as other:
        answer = await assume(sandbox, WebIdentityToken=other.namespace.id_token())

    assert answer.code == "InvalidIdentityToken"
    assert not other.aws.calls


async def test_secrets_are_in_no_repr(sandbox: Sandbox) -> None:
    keys = sandbox.aws.role_session(sandbox.role_arn)

    assert keys.session_token
    assert keys.session_token not in repr(keys)
    assert keys.secret_access_key not in repr(keys)


def test_in_a_thread_it_serves_and_can_be_steered_from_outside() -> None:
    others = set(threading.enumerate())  # of other tests' sandboxes

    with sandbox_in_thread(workspace="ws_7") as sandbox:
        url = sandbox.namespace.metadata_url + "/id"
        sandbox.fail("id", body="scripted", count=1)

        bodies = [urllib.request.urlopen(url).read() for _ in range(2)]

        assert bodies == [b"scripted", b"i-abc"]
        assert [call.operation for call in sandbox.namespace.calls] == ["id", "id"]
    assert "sandbox" not in [each.name for each in set(threading.enumerate()) - others]


def test_in_a_thread_what_goes_wrong_at_start_is_raised_to_who_wants_it() -> None:
    with sandbox_in_thread() as sandbox:
        port = int(sandbox.aws.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"), sandbox_in_thread(aws_port=port):
            pass


def test_as_a_process_it_prints_one_line_and_leaves_on_sigterm(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "broker.sandbox", "--to-namespace"]
    command += ["--token-file", str(tmp_path / "token")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        name = urllib.request.urlopen(told["namespace"] + "/metadata/v1/id").read()
        process.terminate()
        rest = process.stdout.read()

    assert name == b"i-abc"
    assert told["role_arn"] == "arn:aws:iam::123456789012:role/deploy"
    assert told["environment"]["AWS_ENDPOINT_URL_STS"] == told["aws"]
    assert json.loads((tmp_path / "token").read_text())["bearer_token"].startswith("nscw_")
    assert told["workload"]["role_arn"] == "arn:aws:iam::123456789012:role/builder"
    assert told["workload"]["environment"]["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert (process.returncode, rest) == (0, "")


def test_as_a_process_it_starts_with_an_empty_account_and_its_administrator() -> None:
    command = [sys.executable, "-m", "broker.sandbox", "--empty", "--account", "210987654321"]
    command += ["--partition", "aws-cn", "--propagation-s", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        operator = told["administrator"]
        iam = boto3.client(
            "iam",
            region_name=operator["AWS_REGION"],
            endpoint_url=operator["AWS_ENDPOINT_URL_IAM"],
            aws_access_key_id=operator["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=operator["AWS_SECRET_ACCESS_KEY"],
        )
        roles = iam.list_roles()["Roles"]
        providers = iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
        process.terminate()

    assert (roles, providers) == ([], [])
    assert told["role_arn"] == "arn:aws-cn:iam::210987654321:role/deploy"
    assert operator["AWS_REGION"] == "cn-north-1"
    assert "AWS_SESSION_TOKEN" not in operator


async def test_the_administrators_environment_is_enough_to_manage_the_account(
    sandbox: Sandbox,
) -> None:
    environment = sandbox.administrator_environment()

    assert environment["AWS_ACCESS_KEY_ID"] == sandbox.aws.administrator().access_key_id
    assert environment["AWS_ENDPOINT_URL_IAM"] == sandbox.aws.url


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("broker.policy", {"jwt", "cryptography", "aiohttp"}),
        ("broker.sandbox", {"moto", "botocore", "flask", "boto3"}),
    ],
)
def test_importing_it_pulls_in_nothing_that_it_can_do_without(
    module: str, unwanted: set[str]
) -> None:
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"

    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()

    assert not unwanted & set(loaded)
