"""Ask for credentials with many botocore sessions at once; print how many got them."""

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from botocore.session import Session

count = int(sys.argv[1])
together = Barrier(count)


def is_served(session: Session) -> bool:
    """Resolve credentials by the default chain, in the moment in which all others do."""
    together.wait()
    return session.get_credentials() is not None


sessions = [Session() for _ in range(count)]
for session in sessions:
    session.get_component("credential_provider")
with ThreadPoolExecutor(count) as threads:
    print(sum(threads.map(is_served, sessions)))
