"""Another web site, and a real browser that opens its page."""

import json
import queue
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "hostile_page.html"
LIMIT_S = 60.0
QUIETLY = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--no-proxy-server"),
)
TRUSTING = (
    # These keep pages from private addresses, in browsers that have them: not what is tried here.
    "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,"
    "PrivateNetworkAccessSendPreflights,PrivateNetworkAccessRespectPreflightResults",
)

Report = list[dict[str, Any]]


class HostileSite(ThreadingHTTPServer):
    """Serves the page, what it is to try, and takes its report; anything else is ``open``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.targets: Sequence[str] = ()
        self.reports: queue.Queue[Report] = queue.Queue()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: HostileSite

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer("text/html", PAGE.read_bytes())
        elif self.path == "/targets":
            self._answer("application/json", json.dumps(self.server.targets).encode())
        else:
            self._answer("text/plain", b"open")

    def do_PUT(self) -> None:
        self._answer("text/plain", b"open")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/report":
            self.server.reports.put(json.loads(body))
        self._answer("text/plain", b"open")

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@contextmanager
def hostile_site() -> Iterator[HostileSite]:
    with HostileSite() as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()


def visit(
    site: HostileSite, targets: Sequence[str], *flags: str, names: dict[str, str], folder: Path
) -> Report:
    """Open the page in Chromium, to which *names* are those addresses.

    Return what it reports of its *targets*.
    """
    site.targets = targets
    mapped = ", ".join(f"MAP {name} {address}" for name, address in names.items())
    command = [
        *("chromium", *QUIETLY, *TRUSTING, *flags),
        *(f"--user-data-dir={folder}/profile", f"--host-resolver-rules={mapped}"),
        *("--remote-debugging-port=0", f"http://page.test:{site.port}/"),
    ]
    log = folder / "chromium.log"
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    with (
        log.open("wb") as out,
        # In a namespace of its own: when its first process ends, so do all the others.
        subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *command],
            stdout=out,
            stderr=out,
            env=environ,
        ) as browser,
    ):
        try:
            return site.reports.get(timeout=LIMIT_S)
        except queue.Empty:
            raise AssertionError(f"no report: {log.read_text()[-2000:]}") from None
        finally:
            browser.kill()
