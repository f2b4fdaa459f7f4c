"""Number conditioners over HTTP: listed with the model, and checked by its ranges."""

from __future__ import annotations

import pytest

from tests.numbered import write_numbered
from tests.serve.conftest import address_of, httpx, serving


@pytest.fixture(scope="module")
def numbered_client(miniature, tmp_path_factory):
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("numbered-server")
    write_numbered(miniature, folder / "numbered")
    with serving(folder, "--model", folder / "numbered") as process, httpx.Client(timeout=600) as made:
        made.base_url = address_of(process, folder)
        yield made


def test_numbers(numbered_client):
    (model,) = numbered_client.get("/v1/models").json()["data"]
    assert model["numbers"] == [
        {"id": "seconds_total", "minimum": 0, "maximum": 256, "default": None},
        {"id": "bpm", "minimum": 60, "maximum": 200, "default": 130},
        {"id": "swing", "minimum": 0, "maximum": 1, "default": 0.5},
    ]
    common = {"prompt": "kick", "seed": 1, "steps": 1, "seconds": 0.1}
    clips = [
        numbered_client.post("/v1/generate", json=common | {"numbers": numbers}) for numbers in ({"bpm": 180}, {"bpm": 90}, {})
    ]
    assert [clip.status_code for clip in clips] == [200] * 3
    assert len({clip.content[-4000:] for clip in clips}) == 3
    for numbers, message in (
        ({"bpm": 300}, "bpm is 300, expected 60 to 200"),
        ({"speed": 1}, "no number conditioner 'speed'; it has seconds_total (0 to 256), bpm (60 to 200), swing (0 to 1)"),
        ({"bpm": "fast"}, "bpm is 'fast', expected a finite number"),
    ):
        refused = numbered_client.post("/v1/jobs", json=common | {"numbers": numbers})
        assert refused.status_code == 422
        assert message in refused.json()["error"]["message"]
