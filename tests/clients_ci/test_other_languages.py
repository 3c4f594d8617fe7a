"""The JavaScript SDK v3 and the Go SDK v2, unmodified, by both surfaces."""

import pytest

from tests.support.client_sandbox import REGION, SURFACES, World
from tests.support.clients import Client
from tests.support.proof import Arrivals

SOON_S = 10.0


@pytest.mark.parametrize("surface", SURFACES)
def test_a_client_signs_with_keys_that_sts_issued(
    world: World, client: Client, surface: str
) -> None:
    arrivals = Arrivals(world.sandbox)

    ran = client.run(world.client_environment(surface))

    assert ran.code == 0, ran.errors
    assert arrivals.served(client.operation)


@pytest.mark.parametrize("surface", SURFACES)
def test_a_client_without_keys_says_so_and_calls_nobody(
    empty_world: World, client: Client, surface: str
) -> None:
    arrivals = Arrivals(empty_world.sandbox)

    ran = client.run(empty_world.client_environment(surface))

    assert ran.code > 0, "ended by a signal" if ran.code else "as if it had keys"
    assert client.complaint in ran.errors
    assert ran.took_s < SOON_S
    assert arrivals.calls == []


def test_the_js_sdk_takes_its_region_from_us_where_no_variable_has_it(
    world: World, js_sdk: Client
) -> None:
    arrivals = Arrivals(world.sandbox)
    environ = world.client_environment("imds")
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        del environ[variable]

    ran = js_sdk.run(environ)

    assert ran.code == 0, ran.errors
    assert arrivals.served(js_sdk.operation)
    (call,) = arrivals.calls
    assert f"/{REGION}/sts/aws4_request" in call.headers["Authorization"]
