"""The report's server: only on the loopback, only the folder, and only under its own address."""

import socket
import threading
import urllib.error
import urllib.request
from unittest.mock import Mock

import pytest

from harmonizer.report.__main__ import main
from harmonizer.report.serve import report_server


@pytest.fixture
def served(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("<p>report")
    with report_server(tmp_path / "report") as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address
        server.shutdown()
        thread.join()


def fetch(address, path="/", host=None):
    request = urllib.request.Request(f"http://{address[0]}:{address[1]}{path}", headers={"Host": host} if host else {})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        return answer.read()


def test_the_report_is_served_on_the_loopback_only(served):
    assert served[0] == "127.0.0.1"
    assert fetch(served) == b"<p>report"
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for other in others:
        with socket.socket() as connection:
            connection.settimeout(5)
            assert connection.connect_ex((other, served[1])) != 0


@pytest.mark.parametrize(
    ("path", "host", "code"),
    [("/../secret.txt", None, 404), ("/%2e%2e/secret.txt", None, 404), ("/", "evil.example", 403)],
)
def test_files_outside_the_folder_and_other_hosts_are_refused(served, path, host, code):
    with pytest.raises(urllib.error.HTTPError) as error:
        fetch(served, path, host)
    assert error.value.code == code
    error.value.close()


def test_a_folder_without_a_report_is_named(tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--serve"]) == 2
    assert f"expected a report in {tmp_path}, got no index.html there" in capsys.readouterr().err


def test_the_command_serves_and_opens_what_it_wrote(make, tmp_path, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    interrupt = Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", interrupt)
    make(tmp_path / "results" / "one", "resnet18")
    assert main([str(tmp_path / "results"), "--out", str(tmp_path / "out"), "--serve"]) == 0
    (address,) = opened
    assert address.startswith("http://127.0.0.1:") and address in capsys.readouterr().out


def test_a_port_in_use_is_a_one_line_error(served, tmp_path, capsys):
    assert main(["--out", str(tmp_path / "report"), "--serve", str(served[1])]) == 2
    assert capsys.readouterr().err.startswith("error: ")
