"""Ask STS who we are, once for each line on stdin, with one aiobotocore client for all of them."""

import asyncio
import sys

from aiobotocore.session import get_session


async def main() -> None:
    async with get_session().create_client("sts") as sts:
        for _ in sys.stdin:
            print((await sts.get_caller_identity())["Arn"], flush=True)


asyncio.run(main())
