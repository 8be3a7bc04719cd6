"""Published weights on a machine without an internet connection."""

import http.server
import logging
import threading

import pytest
from huggingface_hub import constants

from harmonizer.models import build_model
from harmonizer.models.hub import is_reachable

NOBODY = "http://127.0.0.1:9"  # the discard port, where nothing listens


def test_a_server_that_gives_any_answer_is_reachable():
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)  # answers 501 to every method
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert is_reachable(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert not is_reachable(NOBODY)


def test_offline_weights_fail_in_one_line_without_retries(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match="not cached and cannot be downloaded") as error:
        build_model("test_resnet.r160_in1k", pretrained=True)
    assert "\n" not in str(error.value)
    assert "HF_HOME" in str(error.value)
    assert "weights=FILE" in str(error.value)
    assert not [record for record in caplog.records if "etry" in record.getMessage()]
    assert constants.HF_HUB_OFFLINE is False
