"""Ask again and again as a new boto3 each time, until a line on stdin.

With boto3's own defaults of one second and one attempt. Then prints one line of JSON: how often,
and how long it waited.
"""

import json
import select
import sys
import time

from botocore.session import Session
from botocore.utils import InstanceMetadataFetcher

PAUSE_S = 0.02


def answered(session: Session) -> bool:
    """Say whether a new client, which knows no session token yet, gets credentials."""
    fetcher = InstanceMetadataFetcher(
        timeout=session.get_config_variable("metadata_service_timeout"),
        num_attempts=session.get_config_variable("metadata_service_num_attempts"),
        user_agent=session.user_agent(),
    )
    return bool(fetcher.retrieve_iam_role_credentials())


def main() -> None:
    session = Session()
    asked, longest_s, failed_at = 0, 0.0, []
    print("asking", flush=True)
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        began_at_s = time.monotonic()
        if not answered(session):
            failed_at.append(time.time())
        longest_s = max(longest_s, time.monotonic() - began_at_s)
        asked += 1
    print(json.dumps({"asked": asked, "failed_at": failed_at, "longest_s": longest_s}))


if __name__ == "__main__":
    main()
