"""S3 stands behind the same signature check, and answers refusals as S3 does."""

import hashlib
import io
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from broker.sandbox import Sandbox, sandbox_in_thread
from broker.sandbox.aws.accounts import IssuedKeys
from broker.sandbox.aws.s3 import operation_name
from broker.sandbox.aws.sigv4 import WireRequest
from tests.support.sandbox_clients import REGION, client


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread(s3=True) as sandbox:
        yield sandbox


@pytest.fixture
def keys(sandbox: Sandbox) -> IssuedKeys:
    sandbox.heal()
    return sandbox.aws.role_session(sandbox.role_arn)


def s3_client(sandbox: Sandbox, keys: IssuedKeys, **options: Any) -> Any:
    return boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=sandbox.aws.url,
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key,
        aws_session_token=keys.session_token,
        config=Config(retries={"total_max_attempts": 1}, **options),
    )


@pytest.fixture
def s3(sandbox: Sandbox, keys: IssuedKeys) -> Iterator[Any]:
    made = s3_client(sandbox, keys)
    yield made
    made.close()


@pytest.fixture
def bucket(s3: Any) -> str:
    s3.create_bucket(Bucket="bkt-one", CreateBucketConfiguration={"LocationConstraint": REGION})
    return "bkt-one"


@pytest.fixture(autouse=True)
def _no_buckets_left(sandbox: Sandbox) -> Iterator[None]:
    yield
    remover = s3_client(sandbox, sandbox.aws.role_session(sandbox.role_arn))
    for one in remover.list_buckets()["Buckets"]:
        for kept in remover.list_objects_v2(Bucket=one["Name"]).get("Contents", []):
            remover.delete_object(Bucket=one["Name"], Key=kept["Key"])
        remover.delete_bucket(Bucket=one["Name"])
    remover.close()


@pytest.mark.parametrize("key", ["plain.txt", "a b/ü+x~=&?.txt", "%41/100%", "dir//twice"])
def test_what_boto3_puts_it_gets_whatever_the_name(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=b"hello", ContentType="text/x", Metadata={"a": "b"})

    got = s3.get_object(Bucket=bucket, Key=key)
    head = s3.head_object(Bucket=bucket, Key=key)

    assert got["Body"].read() == b"hello"
    assert (got["ContentType"], got["Metadata"]) == ("text/x", {"a": "b"})
    assert head["ContentLength"] == 5
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]


def test_a_file_in_parts_arrives_whole(s3: Any, bucket: str) -> None:
    content = bytes(range(256)) * 40_000

    s3.upload_fileobj(io.BytesIO(content), bucket, "big")

    got = s3.get_object(Bucket=bucket, Key="big")["Body"].read()
    assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()


def test_a_compressed_object_is_kept_as_it_was_signed(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="z", Body=b"not really gzip", ContentEncoding="gzip")

    assert s3.get_object(Bucket=bucket, Key="z")["Body"].read() == b"not really gzip"


@pytest.mark.parametrize("payload_signed", [True, False])
def test_payloads_are_taken_signed_and_unsigned(
    sandbox: Sandbox, keys: IssuedKeys, bucket: str, payload_signed: bool
) -> None:
    made = s3_client(
        sandbox,
        keys,
        s3={"payload_signing_enabled": payload_signed},
        request_checksum_calculation="when_required",
    )

    made.put_object(Bucket=bucket, Key="k", Body=b"hello")
    made.close()

    sent = sandbox.aws.calls_of("PutObject")[-1].headers["X-Amz-Content-SHA256"]
    assert sent == (hashlib.sha256(b"hello").hexdigest() if payload_signed else sent)
    assert payload_signed or not sent.startswith("2cf24")


async def test_a_trailer_after_the_body_is_taken(sandbox: Sandbox, keys: IssuedKeys) -> None:
    async with client("s3", sandbox, keys) as made:
        await made.create_bucket(
            Bucket="bkt-two", CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        await made.put_object(
            Bucket="bkt-two", Key="k", Body=io.BytesIO(b"hello"), ChecksumAlgorithm="SHA256"
        )
        got = await made.get_object(Bucket="bkt-two", Key="k")
        body = await got["Body"].read()

    assert body == b"hello"


def test_every_call_is_recorded_with_the_identity_that_signed_it(
    sandbox: Sandbox, s3: Any, keys: IssuedKeys, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")

    call, seen = sandbox.aws.calls[-1], sandbox.aws.verified_identities[-1]
    assert (call.operation, call.access_key_id, call.status) == (
        "PutObject",
        keys.access_key_id,
        200,
    )
    assert (seen.operation, seen.session_token) == ("PutObject", keys.session_token)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"secret_access_key": "x" * 40}, "SignatureDoesNotMatch"),
        ({"access_key_id": "ASIAUNKNOWN"}, "InvalidAccessKeyId"),
        ({"session_token": "another"}, "InvalidAccessKeyId"),
    ],
)
def test_wrong_keys_are_refused_as_s3_refuses(
    sandbox: Sandbox, keys: IssuedKeys, change: dict[str, str], code: str
) -> None:
    made = s3_client(sandbox, replace(keys, **change))  # type: ignore[arg-type]

    with pytest.raises(ClientError) as refused:
        made.list_buckets()
    made.close()

    assert refused.value.response["Error"]["Code"] == code
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_ended_credentials_are_expired_with_400(sandbox: Sandbox) -> None:
    made = s3_client(sandbox, sandbox.aws.role_session(sandbox.role_arn, lifetime_s=-1))

    with pytest.raises(ClientError) as refused:
        made.list_buckets()
    made.close()

    assert refused.value.response["Error"]["Code"] == "ExpiredToken"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_an_anonymous_request_is_denied(sandbox: Sandbox) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(sandbox.aws.url + "/bkt-one/k")

    with refused.value as answer:
        assert answer.code == 403
        assert b"<Code>AccessDenied</Code>" in answer.read()


def test_a_body_that_is_not_the_one_that_was_hashed_is_refused(
    sandbox: Sandbox, s3: Any, bucket: str
) -> None:
    def lie(request: Any, **_: object) -> None:
        request.data = b"hellO"
        request.body = b"hellO"

    made = s3_client(
        sandbox,
        sandbox.aws.role_session(sandbox.role_arn),
        s3={"payload_signing_enabled": True},
        request_checksum_calculation="when_required",
    )
    made.meta.events.register("before-send.s3.PutObject", lie)

    with pytest.raises(ClientError) as refused:
        made.put_object(Bucket=bucket, Key="k", Body=b"hello")
    made.close()

    assert refused.value.response["Error"]["Code"] == "XAmzContentSHA256Mismatch"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"code": "SlowDown"}, "SlowDown"),
        ({"status": 500}, "InternalError"),
        ({"code": "AccessDenied", "message": "no"}, "AccessDenied"),
    ],
)
def test_a_scripted_fault_is_spelled_as_s3_spells_it(
    sandbox: Sandbox, s3: Any, bucket: str, fault: dict[str, Any], code: str
) -> None:
    sandbox.fail("PutObject", count=1, **fault)

    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")

    assert refused.value.response["Error"]["Code"] == code


async def test_a_sandbox_without_s3_says_so() -> None:
    async with Sandbox() as plain:
        keys = plain.aws.role_session(plain.role_arn)
        async with client("s3", plain, keys) as made:
            with pytest.raises(ClientError, match="without s3=True"):
                await made.list_buckets()


@pytest.mark.parametrize(
    ("method", "target", "name"),
    [
        ("GET", "/", "ListBuckets"),
        ("PUT", "/b", "CreateBucket"),
        ("HEAD", "/b/", "HeadBucket"),
        ("DELETE", "/b", "DeleteBucket"),
        ("GET", "/b?list-type=2&prefix=x", "ListObjectsV2"),
        ("GET", "/b?prefix=x", "ListObjects"),
        ("GET", "/b?location", "GetBucketLocation"),
        ("POST", "/b?delete", "DeleteObjects"),
        ("PUT", "/b/k/l", "PutObject"),
        ("GET", "/b/k?x-id=GetObject", "GetObject"),
        ("POST", "/b/k?uploads", "CreateMultipartUpload"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", "UploadPart"),
        ("POST", "/b/k?uploadId=u", "CompleteMultipartUpload"),
    ],
)
def test_operations_are_named_as_the_api_reference_names_them(
    method: str, target: str, name: str
) -> None:
    assert operation_name(WireRequest(method=method, target=target, headers={}, body=b"")) == name
