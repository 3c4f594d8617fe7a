"""Clients of a broker without a lease report that soon, and none crashes.

Source: sdk-client-contract C-56, C-57, C-71.
"""

import pytest

from tests.support.client_sandbox import SURFACES, World
from tests.support.clients import CLIENTS, Client
from tests.support.proof import Arrivals

SOON_S = 10.0
"""Of this botocore and JS spend four on tries of their own, and a process a second on its start."""


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_without_keys_says_so_and_calls_nobody(
    empty_world: World, arrivals: Arrivals, client: Client, surface: str
) -> None:
    environ = empty_world.client_environment(surface)

    ran = client.run(environ)

    assert ran.code > 0, "ended by a signal" if ran.code else "as if it had keys"
    assert client.complaint in ran.errors
    assert ran.took_s < SOON_S
    assert arrivals.calls == []
