"""Serve a report's folder to the browsers of this machine."""

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
    """Serve files to pages of this address only: a foreign site whose name resolves to the loopback gets nothing."""

    def send_head(self) -> BytesIO | BinaryIO | None:
        """Refuse a request that names another host."""
        port = self.connection.getsockname()[1]
        if self.headers.get("Host") not in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.FORBIDDEN, "expected the address that the report command printed")
            return None
        return super().send_head()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: ANN401 - the signature of the base class
        """Log nothing: the command's output is the address."""


def report_server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """Make a server of a report's folder on the loopback; the caller runs and closes it. Port 0 takes a free one.

    Raises:
        FileNotFoundError: The folder holds no report.
        OSError: The port is taken.
    """
    if not (folder / "index.html").is_file():
        raise FileNotFoundError(f"expected a report in {folder}, got no index.html there; try naming results too")
    return ThreadingHTTPServer((LOOPBACK, port), partial(Handler, directory=str(folder)))


def serve(folder: Path, port: int = 0) -> None:
    """Serve a report and open it in a browser, until interrupted from the keyboard."""
    with report_server(folder, port) as server:
        address = f"http://{LOOPBACK}:{server.server_address[1]}/"
        sys.stdout.write(f"{address} (interrupt to stop)\n")
        sys.stdout.flush()
        webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            sys.stdout.write("\n")
