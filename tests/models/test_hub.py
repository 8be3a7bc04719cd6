"""Published weights on a machine without a network."""

import http.server
import logging
import threading

import pytest
from huggingface_hub import constants

from harmonizer.models import build_model
from harmonizer.models.hub import is_reachable

NOBODY = "http://127.0.0.1:9"  # discard: nothing listens there


def test_a_server_that_answers_anything_is_reachable():
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)  # 501 to each method
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert is_reachable(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert not is_reachable(NOBODY)


def test_weights_without_a_network_are_one_line_at_once(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match="not cached and cannot be downloaded") as error:
        build_model("test_resnet.r160_in1k", pretrained=True)
    assert "\n" not in str(error.value)
    assert "HF_HOME" in str(error.value)
    assert "weights=FILE" in str(error.value)
    assert not [record for record in caplog.records if "etry" in record.getMessage()]
    assert constants.HF_HUB_OFFLINE is False
