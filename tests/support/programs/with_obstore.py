"""Put an object and get it back, once for each line on stdin, with one obstore store for all.

The bucket is the first argument.
"""

import os
import sys

from obstore.store import S3Store

store = S3Store(
    sys.argv[1],
    endpoint=os.environ["AWS_ENDPOINT_URL"],
    virtual_hosted_style_request=False,
    client_options={"allow_http": True},
)
for line in sys.stdin:
    store.put("key", line.encode())
    assert bytes(store.get("key").bytes()) == line.encode()
    print("kept", flush=True)
