"""Bodies by the thousand that no honest client sends: refused, each with the status of a client's mistake."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from starlette.testclient import TestClient

from sao_onnx.serve.app import make_app
from sao_onnx.serve.schema import request_schema
from sao_onnx.serve.settings import Limits, Settings

PATHS = (
    "/v1/jobs",
    "/v1/generate",
    "/v1/sound-generation",
    "/v1/audio/generate",
    "/v2beta/audio/stable-audio-2/text-to-audio",
    "/v2beta/audio/stable-audio-2/audio-to-audio",
    "/v2beta/audio/stable-audio-2/inpaint",
    "/generate",
    "/generate/loop",
    "/generate/style-transfer",
    "/models/switch",
    "/models/checkpoints",
)
VALUES: tuple[Any, ...] = (
    *("", "x", "\x00", "../../etc/passwd", "\U0001f600" * 3, "9" * 400, "nan", "1e999", "-1", "true"),
    *(-1, 0, 2**64, 10**30, 1e308, -1e308, 0.5, True, False, None),
    *([], [[]], [[1, 2]], [[2, 1]], ["x"], {}, {"a": 1}, {"a": {"a": {}}}),
)
NAMES = (
    *request_schema(["sao-tiny"], Limits())["properties"],
    *("text", "input", "duration_seconds", "prompt_influence", "model_id", "response_format", "audio_length", "loop", "bars"),
    *("init_audio", "latents", "audio", "mask_start", "mask_end", "strength", "style_strength", "loop_type", "return_format"),
    *("finetune_repo", "finetune_checkpoint", "model_type", "__class__", "x" * 300),
)


@pytest.fixture(scope="module")
def client():
    # No worker makes anything: what is accepted by mistake would wait, and be seen as 202.
    with TestClient(make_app(Settings(queue=0, limits=Limits(seconds=1, steps=2))), base_url="http://localhost") as made:
        yield made


@pytest.mark.parametrize("path", PATHS)
def test_bodies_that_are_no_json(client, path):
    chance = random.Random(path)
    for _ in range(60):
        kind = chance.choice(["application/json", "text/plain", "multipart/form-data; boundary=b", "multipart/form-data", ""])
        body = bytes(chance.randrange(256) for _ in range(chance.randrange(80)))
        answer = client.post(path, content=body, headers={"content-type": kind})
        assert 400 <= answer.status_code < 500, (kind, body)


@pytest.mark.parametrize("path", PATHS)
def test_objects_with_wrong_fields(client, path):
    chance = random.Random(path)
    for _ in range(100):
        fields = {chance.choice(NAMES): chance.choice(VALUES) for _ in range(chance.randrange(1, 6))}
        # One that no interface takes, so that nothing is made by accident.
        fields |= {"prompt": ["no"], "text": ["no"], "input": ["no"], "finetune_repo": ["no"], "model_type": "no"}
        if path.startswith("/v2beta") or path.endswith("transfer") or chance.random() < 0.3:
            form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
            form.pop("prompt")
            answer = client.post(path, data=form, files={"audio": ("a.wav", b"RIFF\xff\xff\xff\xffWAVE")})
        else:
            answer = client.post(path, content=json.dumps(fields), headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500, (fields, answer.text)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"prompt": ' + "9" * 5_000 + "}", '{"prompt": "\\ud800"}', '{"prompt": NaN}', "{}", "[]"]
)
@pytest.mark.parametrize("path", PATHS[:4])
def test_json_that_breaks_readers(client, path, text):
    answer = client.post(path, content=text, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert len(answer.text) < 1_000


REQUEST = ("request", (None, '{"prompt": "kick", "steps": 3}'))  # More steps than this server allows.


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([REQUEST], "steps is 3"),
        ([("request", ("blob", '{"prompt": "kick", "steps": 3}', "application/json"))], "steps is 3"),
        ([REQUEST, ("prompt", (None, "kick"))], "'prompt', expected request and audio"),
        ([REQUEST, REQUEST], "2 parts 'request'"),
        ([("audio", ("a.wav", b"RIFF"))], '"request" of the form is missing'),
        ([REQUEST, ("audio", (None, "kick"))], "audio is text"),
        ([("request", (None, " " * 2_000_000))], "cannot be read"),
        ([("request", ("blob", b" " * 2_000_000))], "larger than 1000000 bytes"),
        ([("x", (None, "y"))] * 60, "Too many fields"),
        ([("x", ("x", "y"))] * 3, "Too many files"),
    ],
)
def test_forms(client, parts, says):
    answer = client.post("/v1/jobs", files=parts)
    assert answer.status_code == 422
    assert says in answer.json()["error"]["message"]


@pytest.mark.parametrize(("path", "name"), [(path, "success") for path in PATHS if path.startswith("/generate/")])
def test_a_broken_form_is_refused_in_the_shape_of_its_interface(client, path, name):
    answer = client.post(path, content=b"--b\r\nx", headers={"content-type": "multipart/form-data; boundary=b"})
    assert (answer.status_code, answer.json()[name]) == (422, False)
    many = client.post(path, files=[("x", ("x", "y"))] * 3)
    assert (many.status_code, many.json()[name]) == (422, False)


@pytest.mark.parametrize("prompt", ["drums 0bpm", "19.9 bpm", "401bpm", "9" * 400 + "bpm", "0.000001 bpm"])
def test_tempos_that_are_none(client, prompt):
    answer = client.post("/generate/loop", json={"prompt": prompt})
    assert answer.status_code == 422
    assert "expected 20 to 400" in answer.json()["error"]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "DELETE", "PROPFIND"])
def test_other_methods(client, method):
    assert client.request(method, "/v1/generate").status_code == 405


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/v1/jobs/..%2f..%2fetc", "/page.js/../app.py", "/v1/jobs/" + "x" * 9_000, "/%00"]
)
def test_odd_paths(client, path):
    assert client.get(path).status_code in (404, 421)
