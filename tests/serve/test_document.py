"""Requests made of the served OpenAPI document, right and wrong ones: every answer is one that the document names."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from sao_onnx.clip import Clip, Timings
from sao_onnx.events import Conditioned, Finished, Sampled
from sao_onnx.serve.app import make_app
from sao_onnx.serve.settings import Limits, Settings

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
st = pytest.importorskip("hypothesis.strategies")

# What has no effect is warned of in the server's log, and made without it.
pytestmark = pytest.mark.filterwarnings("ignore::sao_onnx.errors.SaoOnnxWarning")

OPERATIONS = (
    *("POST /v1/jobs", "POST /v1/generate", "GET /v1/jobs/{id}", "DELETE /v1/jobs/{id}", "GET /v1/jobs/{id}/events"),
    *("GET /v1/jobs/{id}/audio", "GET /v1/jobs/{id}/preview"),
    *("GET /v1/models", "GET /v1/options", "GET /healthz", "GET /readyz"),
)
ADAPTERS: dict[str, dict[str, dict[str, Any]]] = {
    "/v1/sound-generation": {
        "text": {"type": "string"},
        "duration_seconds": {"type": ["number", "null"], "minimum": 0.5, "maximum": 30},
        "loop": {"type": "boolean"},
        "prompt_influence": {"type": "number", "minimum": 0, "maximum": 1},
        "model_id": {"type": "string"},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**32},
    },
    "/v1/audio/generate": {
        "input": {"type": "string"},
        "audio_length": {"type": "number", "minimum": 0, "maximum": 2},
        "audio_start": {"type": "number", "minimum": 0, "maximum": 2},
        "response_format": {"enum": ["wav", "flac", "mp3", "opus", "ogg", "aac"]},
        "negative_prompt": {"type": "string"},
        "guidance_scale": {"type": "number", "minimum": 0, "maximum": 99},
        "num_inference_steps": {"type": "integer", "minimum": 1, "maximum": 4},
    },
    "/v2beta/audio/stable-audio-2/text-to-audio": {
        "prompt": {"type": "string"},
        "duration": {"type": "number", "minimum": 0.01, "maximum": 9},
    },
    "/v2beta/audio/stable-audio-2/audio-to-audio": {
        "prompt": {"type": "string"},
        "strength": {"type": "number", "minimum": 0, "maximum": 1},
        "output_format": {"enum": ["mp3", "wav", "ogg"]},
    },
    "/v2beta/audio/stable-audio-2/inpaint": {
        "prompt": {"type": "string"},
        "mask_start": {"type": "number", "minimum": 0, "maximum": 0.2},
        "mask_end": {"type": "number", "minimum": 0, "maximum": 0.2},
    },
    "/generate": {
        "prompt": {"type": "string"},
        "seconds_total": {"type": "number", "minimum": 1, "maximum": 30},
        "return_format": {"enum": ["file", "base64"]},
        "cfg_scale": {"type": "number", "minimum": 0, "maximum": 20},
        "sampler_type": {"type": "string"},
    },
    "/generate/loop": {
        "prompt": {"enum": ["drums 120bpm", "0bpm", "9999999999 bpm", "1e5bpm", "10 bpm"]},
        "bars": {"type": "integer", "minimum": 1, "maximum": 64},
        "loop_type": {"enum": ["auto", "drums", "instruments"]},
    },
    "/generate/style-transfer": {
        "prompt": {"type": "string"},
        "style_strength": {"type": "number", "minimum": 0.1, "maximum": 1},
    },
    "/models/switch": {"model_type": {"enum": ["standard", "finetune"]}, "finetune_repo": {"type": "string"}},
    "/models/checkpoints": {"finetune_repo": {"type": "string"}},
}


PARTS = {
    "/v2beta/audio/stable-audio-2/text-to-audio": "none",
    "/v2beta/audio/stable-audio-2/audio-to-audio": "audio",
    "/v2beta/audio/stable-audio-2/inpaint": "audio",
    "/generate/style-transfer": "audio_file",
}
"""Of the forms, the part that holds audio."""


def waveform() -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, np.sin(np.arange(4_000) / 5)[:, None] * [0.1, 0.2], 22_050, format="WAV")
    return stream.getvalue()


WAV = waveform()
SILENCE = np.zeros((2, 100), np.float32)


def silent(plan, stages, provenance, pace):
    """What a network would make, at once. Everything before it and after it is real."""
    for index, window in enumerate(plan.windows):
        yield Conditioned(window.steps, index, len(plan.windows))
        for step in range(window.steps):
            yield Sampled(step, window.steps, SILENCE, SILENCE)
    yield Finished(Clip(SILENCE, plan.sample_rate, plan.seed, SILENCE, Timings(), provenance))


@pytest.fixture(scope="module")
def client(miniature):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sao_onnx.engine.run", silent)
        patch.setattr("sao_onnx.engine.Engine.decode", lambda *arguments, **options: SILENCE)
        app = make_app(Settings(models=(str(miniature),), keep_bytes=4_000, limits=Limits(seconds=9, steps=3)))
        with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as made:
            yield made


@pytest.fixture(scope="module")
def document(client):
    return client.get("/openapi.json").json()


TEXT = st.text("aZ09 .:_-'\"<>&{}[]\\\t\n\x00\x7f\xe9\u0301\u20ac\u202e\uffff\U0001f600", max_size=12)
"""Of letters that are named here, because hypothesis spends seconds on a table of all that there are."""

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def values(schema: dict[str, Any]):
    """What a schema allows; now and then something else."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    kinds = {
        "null": st.none(),
        "boolean": st.booleans(),
        "number": st.floats(low, high, exclude_min="exclusiveMinimum" in schema, allow_nan=False, allow_infinity=False),
        "integer": st.integers(low, high),
        "string": TEXT | st.sampled_from(["kick", "seconds_total", "\x00", "120 bpm"]),
    }
    if "items" in schema:
        size = schema["items"].get("minItems", 0)
        kinds["array"] = st.lists(values(schema["items"]), min_size=size, max_size=schema["items"].get("maxItems", 3) or 3)
    if isinstance(schema.get("additionalProperties"), dict):
        names = st.sampled_from(["seconds_total", "seconds_start", "x"])
        kinds["object"] = st.dictionaries(names, values(schema["additionalProperties"]), max_size=2)
    return st.one_of(kinds[kind] for kind in np.atleast_1d(schema["type"]).tolist())


def objects(properties: dict[str, Any], required: tuple[str, ...] = ()):
    """A few of the properties, one of them perhaps with a wrong value or of a wrong name."""
    right = {name: values(schema) for name, schema in properties.items()}
    needed = {name: right.pop(name) for name in required}
    few = st.lists(st.sampled_from(sorted(right)), max_size=4, unique=True) if right else st.just([])
    made = few.flatmap(lambda names: st.fixed_dictionaries(needed | {name: right[name] for name in names}))
    wrong = st.dictionaries(st.sampled_from(sorted(properties)) | TEXT, JUNK, max_size=1)
    return st.one_of(made, made, st.builds(lambda a, b: a | b, made, wrong))


AUDIO = st.one_of(st.just(WAV), st.integers(0, len(WAV)).map(lambda size: WAV[:size]), st.binary(max_size=60))
NAMED = st.sampled_from(["audio", "audio_file", "request", "other"])


def bodies(data, *, audio: str = "", own: bool = False):
    """Arguments of a request with a body: mostly of the form that is wanted.

    Args:
        data: What makes an object.
        audio: The part of a form that is to hold audio; "" where JSON is wanted.
        own: A form has the object as the part "request", otherwise its fields as parts.
    """
    as_json = st.builds(lambda data: {"content": json.dumps(data).encode(), "headers": JSON}, data | JUNK)
    wanted = st.just([(audio or "audio", ("a.wav", WAV))])
    files = wanted | st.lists(st.tuples(NAMED, st.tuples(st.just("a"), AUDIO)), max_size=2)

    def form(data: dict[str, Any], files: list[Any], more: dict[str, str]) -> dict[str, Any]:
        parts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in data.items()}
        return {"data": ({"request": json.dumps(data)} if own else parts) | more, "files": files}

    forms = st.builds(form, data, files, st.just({}) | st.dictionaries(TEXT, TEXT, max_size=1))
    kinds = st.sampled_from(["", "text/plain", "application/json", "multipart/form-data", "multipart/form-data; boundary=b"])
    raw = st.builds(lambda data, kind: {"content": data, "headers": {"content-type": kind}}, st.binary(max_size=60), kinds)
    first, second = (forms, as_json) if audio else (as_json, forms)
    return st.one_of(first, first, first, forms if own else first, second, raw)


JSON = {"content-type": "application/json"}


TIMES = int(os.environ.get("SAO_ONNX_FUZZ", "1"))
"""How many times as many requests, and then others in every run."""


def few(count: int):
    """So many requests, the same in every run."""
    return hypothesis.settings(
        max_examples=count * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def test_every_operation_is_tried(document):
    found = {
        f"{method.upper()} {path}" for path, each in document["paths"].items() for method in each if method != "parameters"
    }
    assert found == set(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_answers_are_those_of_the_document(client, document, operation):
    method, _, path = operation.partition(" ")
    about = document["paths"][path][method.lower()]
    parameters = [*document["paths"][path].get("parameters", []), *about.get("parameters", [])]
    schema = document["components"]["schemas"]["Request"]
    ids = [client.post("/v1/jobs", json={"prompt": "kick", "steps": 3, "preview": True}).json()["id"] for _ in range(3)]
    asked = bodies(objects(schema["properties"], ("prompt",)), own=True) if "requestBody" in about else st.just({})
    has_format = any(parameter["name"] == "format" for parameter in parameters)

    @few(150 if "requestBody" in about else 30 if "{id}" in path or has_format else 2)
    @hypothesis.given(
        asked,
        st.sampled_from(ids) | st.text("aZ09_-é€", min_size=1, max_size=300),
        st.sampled_from(["wav", "mp3", "flac", "", "x", "\x00"]) if has_format else st.just(""),
        st.sampled_from(["", "16", "24", "32", "x", "\x00"]) if has_format else st.just(""),
        st.sampled_from(["", "bytes=0-9", "bytes=-5", "bytes=99999999-", "x"]),
    )
    def try_it(body, id, format, bits, range):
        headers = body.pop("headers", {}) | ({"range": range} if "Range" in str(parameters) else {})
        query = {name: value for name, value in (("format", format), ("bits", bits)) if value}
        answer = client.request(method, path.replace("{id}", id), params=query, headers=headers, **body)
        check(answer, about, document)

    try_it()


def check(answer, about: dict[str, Any], document: dict[str, Any]) -> None:
    """The status, the type, the headers and the body of an answer are in the document."""
    named = about["responses"].get(str(answer.status_code))
    assert named is not None, f"{answer.status_code} is not in the document: {answer.text[:200]}"
    assert answer.status_code != 500, answer.text
    kind = answer.headers.get("content-type", "").split(";")[0]
    assert kind in named.get("content", {"": None}), kind
    assert {name.lower() for name in named.get("headers", {}) if name != "X-Sao-Recipe"} <= answer.headers.keys()
    if kind == "application/json":
        schema = named["content"][kind]["schema"] | {"components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json())


@pytest.mark.parametrize("path", ADAPTERS)
def test_answers_to_the_clients_of_others(client, path):
    fields = ADAPTERS[path]
    names = tuple(name for name in ("prompt", "text", "input") if name in fields)

    @few(40)
    @hypothesis.given(bodies(objects(fields, names), audio=PARTS.get(path, "")))
    def try_it(body):
        answer = client.post(path, **body)
        assert answer.status_code in (200, 413, 422, 429), answer.text[:300]
        if answer.status_code != 200:
            # In the shape of each: never ours, where it is another one.
            assert answer.json().keys() & {"error", "errors", "detail"}
            assert ("success" in answer.json()) == path.startswith(("/generate", "/models"))

    try_it()


@pytest.mark.parametrize("path", sorted({operation.partition(" ")[2] for operation in OPERATIONS}))
def test_refused_methods_are_told_which_there_are(client, document, path):
    answer = client.request("PUT", path.replace("{id}", "x"))
    assert answer.status_code == 405
    assert set(answer.headers["allow"].lower().split(", ")) - {"head"} == document["paths"][path].keys() - {"parameters"}
