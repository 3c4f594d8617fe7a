"""Unmodified clients with nothing but what ``env`` prints, by both surfaces."""

import pytest

from tests.support.client_sandbox import SURFACES, World
from tests.support.clients import CLIENTS, Client
from tests.support.proof import Arrivals


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_signs_with_keys_that_sts_issued(
    world: World, arrivals: Arrivals, client: Client, surface: str
) -> None:
    environ = world.client_environment(surface)

    ran = client.run(environ)

    assert ran.code == 0, ran.errors
    assert arrivals.served(client.operation)


@pytest.mark.parametrize("surface", SURFACES)
def test_no_client_is_told_any_keys(world: World, surface: str) -> None:
    told = world.broker.tells_clients(surface=surface)

    issued = {keys.secret_access_key for keys in world.sandbox.aws.issued}
    assert issued
    assert not issued & set(told.values())
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} & told.keys()
