"""Who may call the server, in this process."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from sao_onnx.request import kinds
from sao_onnx.serve.app import make_app
from sao_onnx.serve.schema import NOT_IN_JSON
from sao_onnx.serve.settings import Limits, Settings

LOCAL = "http://127.0.0.1:8005"


def client(**settings) -> TestClient:
    return TestClient(make_app(Settings(**settings)), base_url=LOCAL, raise_server_exceptions=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8005", "localhost:1", "LOCALHOST", "localhost.", "[::1]:8005"])
def test_names_of_this_machine_are_answered(host):
    assert client().get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8005", "", "[::2]", "127.0.0.2"]
)
def test_other_names_are_not(host):
    assert client().get("/healthz", headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (LOCAL, 200),
        ("https://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:9999", 403),
        ("https://app.example", 200),
        ("https://app.example.evil", 403),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/options", "/healthz"])
def test_pages_of_other_hosts_may_not_call(origin, status, path):
    answer = client(origins=("https://app.example",)).get(path, headers={"origin": origin})
    assert answer.status_code == status
    assert ("access-control-allow-origin" in answer.headers) == (origin == "https://app.example")


def test_a_page_that_may_call_is_told_so_before():
    asks = {"origin": "https://app.example", "access-control-request-method": "POST"}
    answer = client(origins=("https://app.example",), key="k").options("/v1/jobs", headers=asks)
    assert answer.status_code == 204
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert client().options("/v1/jobs", headers=asks).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer secret"},
        {"authorization": "bearer  secret"},
        {"xi-api-key": "secret"},
        {"x-api-key": "secret"},
    ],
)
def test_the_key_opens(headers):
    assert client(key="secret").get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "secret"},
        {"authorization": "Basic secret"},
        {"xi-api-key": ""},
        {"authorization": "Bearer s\xe9cret"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/jobs/x", "/openapi.json", "/models/status", "/metrics", "/nothing"])
def test_nothing_else_does(headers, path):
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = client(key="secret", metrics=True).get(path, headers=encoded)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/healthz", "/readyz"])
def test_the_page_and_probes_need_none(path):
    assert client(key="secret").get(path).status_code == 200


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/sound-generation", "/generate", "/v2beta/audio/stable-audio-2/inpaint"])
@pytest.mark.parametrize("whole", [True, False], ids=["its length is said", "in pieces"])
def test_a_large_body_is_refused(path, whole):
    data = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n' + b"x" * 2_000
    body = data if whole else iter([data[:900], data[900:]])
    kind = "multipart/form-data; boundary=b" if "v2beta" in path else "application/json"
    answer = client(limits=Limits(body=1_000)).post(path, content=body, headers={"content-type": kind})
    assert answer.status_code == 413


def test_every_answer_has_the_headers_of_a_careful_server():
    for path in ("/", "/nothing", "/v1/models", "/healthz"):
        headers = client().get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers


def test_the_page_asks_nothing_of_other_hosts():
    page = client()
    for path in ("/", "/page.js", "/page.css"):
        assert "://" not in page.get(path).text.replace("http://www.w3.org/2000/svg", "")


def test_the_schema_has_every_option_that_can_be_sent():
    schema = client().get("/v1/options").json()["schema"]
    assert set(schema["properties"]) == {"prompt", "model", "preview"} | (kinds().keys() - NOT_IN_JSON)
    assert schema["additionalProperties"] is False


def test_the_description_is_valid():
    validator = pytest.importorskip("openapi_spec_validator")
    for key in ("", "secret"):
        found = client(key=key).get("/openapi.json", headers={"authorization": "Bearer secret"}).json()
        validator.validate(found)


def test_addresses_are_names_where_others_may_call():
    assert client(addresses=True).get("/healthz", headers={"host": "192.168.0.7:8005"}).status_code == 200
    assert client(addresses=True).get("/healthz", headers={"host": "[fe80::1]"}).status_code == 200
    assert client(addresses=True).get("/healthz", headers={"host": "evil.example"}).status_code == 421


def test_only_forms_may_be_large():
    body = b"x" * 2_000_000
    refused = client().post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert (refused.status_code, "1000000 bytes" in refused.text) == (413, True)

    def parts():
        yield from (body[:100_000] for _ in range(20))

    assert client().post("/v1/jobs", content=parts()).status_code == 413
    assert client().post("/v1/jobs", files={"audio": body}, data={"request": "{}"}).status_code == 422


@pytest.mark.parametrize(("rate", "channels"), [(500, 1), (44_100, 65)])
def test_audio_that_is_none_of_sound_is_refused(rate, channels):
    import io

    import numpy as np
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, np.zeros((10, channels)), rate, format="WAV")
    answer = client().post("/v1/jobs", files={"audio": stream.getvalue()}, data={"request": '{"prompt": "x"}'})
    assert answer.status_code == 422
    assert answer.json()["error"]["type"] == "AudioFileError"


def test_recordings_are_bounded_by_what_they_decode_to():
    import io

    import numpy as np
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, np.zeros((30_000, 8)), 8_000, format="FLAC")
    answer = client(limits=Limits(decoded=100_000)).post(
        "/v1/jobs", files={"audio": stream.getvalue()}, data={"request": '{"prompt": "x"}'}
    )
    assert answer.status_code == 422
    assert "longer" in answer.text
