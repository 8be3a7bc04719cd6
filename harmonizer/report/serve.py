"""Serve the folder of a report to browsers on this machine."""

import sys
import webbrowser
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

LOOPBACK = "127.0.0.1"


class Handler(SimpleHTTPRequestHandler):
    """Serve files only under this address, so that no other site whose name resolves to the loopback can read them."""

    def send_head(self) -> BytesIO | BinaryIO | None:
        """Refuse requests with another host name."""
        port = self.connection.getsockname()[1]
        if self.headers.get("Host") not in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.FORBIDDEN, "expected the address that the report command printed")
            return None
        return super().send_head()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: ANN401 - the signature of the base class
        """Log nothing; the command prints only the address."""


def report_server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """Return a server of a report's folder on the loopback; port 0 means any free port. The caller runs and closes it.

    Raises:
        FileNotFoundError: The folder contains no report.
        OSError: The port is in use.
    """
    if not (folder / "index.html").is_file():
        raise FileNotFoundError(f"expected a report in {folder}, got no index.html there; try giving results too")
    return ThreadingHTTPServer((LOOPBACK, port), partial(Handler, directory=str(folder)))


def serve(folder: Path, port: int = 0) -> None:
    """Serve a report and open it in a browser, until Ctrl-C."""
    with report_server(folder, port) as server:
        address = f"http://{LOOPBACK}:{server.server_address[1]}/"
        sys.stdout.write(f"{address} (interrupt to stop)\n")
        sys.stdout.flush()
        webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            sys.stdout.write("\n")
