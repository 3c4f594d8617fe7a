"""Instance metadata (EC2) and the container endpoint (ECS) of a machine of AWS's, on one address.

It serves one set of keys to everybody.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from broker.sandbox.aws.accounts import IssuedKeys

ROLE_LIST = "/latest/meta-data/iam/security-credentials/"
CONTAINER = "/v2/credentials"


@contextmanager
def credentials_endpoint(keys: IssuedKeys) -> Iterator[str]:
    """Serve *keys* for the block; yields the address as a URL without a path."""
    document = json.dumps(
        {
            "Code": "Success",
            "AccessKeyId": keys.access_key_id,
            "SecretAccessKey": keys.secret_access_key,
            "Token": keys.session_token,
            "Expiration": f"{keys.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        }
    )
    answers = {ROLE_LIST: "builder", f"{ROLE_LIST}builder": document, CONTAINER: document}

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.answer("session-token")

        def do_GET(self) -> None:
            self.answer(answers.get(self.path))

        def answer(self, text: str | None) -> None:
            body = (text or "").encode()
            self.send_response(404 if text is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()
