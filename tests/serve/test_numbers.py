"""What a fine-tune brings, over HTTP: number conditioners, listed and checked by their ranges; prompts."""

from __future__ import annotations

import json

import pytest

from tests.numbered import describe_files, write_numbered
from tests.serve.conftest import address_of, httpx, serving


@pytest.fixture(scope="module")
def numbered_client(miniature, tmp_path_factory):
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("numbered-server")
    bundle = folder / "numbered"
    write_numbered(miniature, bundle)
    (bundle / "prompts.json").write_text('{"version": 1, "dice": {"drums": ["acid kick", "snare"]}}', encoding="utf-8")
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"].append({"path": "prompts.json", "role": "prompts", "size": 0, "sha256": ""})
    describe_files(bundle, manifest)
    # A name of its own, which is not the one in the manifest.
    with serving(folder, "--model", folder / "numbered") as process, httpx.Client(timeout=600) as made:
        made.base_url = address_of(process, folder)
        made.folder = folder
        yield made


def test_prompts_for_the_plug_in(numbered_client):
    answer = numbered_client.get("/models/prompts").json()
    assert answer["model_key"] == "numbered"
    assert answer["prompts"]["dice"] == {"generic": [], "drums": ["acid kick", "snare"], "instrumental": []}


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


def test_headers_say_which_model_of_this_server_and_how(numbered_client):
    body = {"prompt": "雨 é", "seed": 1, "steps": 1, "seconds": 0.1, "model": "numbered"}
    made = numbered_client.post("/v1/generate", json=body)
    assert made.headers["x-sao-model"] == "numbered"
    assert json.loads(made.headers["x-sao-recipe"])["sao-onnx"]["prompt"] == "雨 é"
    again = numbered_client.post("/v1/generate", json=body | {"model": made.headers["x-sao-model"]})
    assert again.content == made.content
    assert numbered_client.post("/v1/generate", json=body, headers={"Range": "bytes=0-3", "If-Range": '"x"'}).status_code == 200


def test_no_prompt_is_logged(numbered_client):
    secret = "secret " * 200
    made = numbered_client.post("/v1/generate", json={"prompt": secret, "seed": 1, "steps": 1, "seconds": 0.1})
    assert made.status_code == 200
    assert "secret" not in (numbered_client.folder / "log").read_text(encoding="utf-8")
