"""The server as a process."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import json
import signal
import socket
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from sao_onnx.cli.signals import PATIENCE
from sao_onnx.provenance import read_provenance
from tests.processes import COMMAND, GUARD, interrupt, run, succeed, wait_until
from tests.serve.asking import LONG, QUICK, samples, server_sent, until_ended
from tests.serve.conftest import address_of, serving


def test_a_clip_is_that_of_the_command_line(client, model, tmp_path):
    answer = client.post("/v1/generate", json=QUICK | {"seed": 42})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["x-sao-seed"] == "42"
    options = ["--seconds", 0.2, "--steps", 2, "--window-seconds", 0.2, "--seed", 42, "--model", model, "--threads", 1]
    succeed([COMMAND, "gen", "kick drum", *options, "-o", tmp_path / "a.wav"])
    np.testing.assert_array_equal(samples(answer.content), samples((tmp_path / "a.wav").read_bytes()))
    assert json.loads(answer.headers["x-sao-recipe"]) == json.loads(read_provenance(tmp_path / "a.wav").to_json())


@pytest.mark.parametrize(
    ("format", "begins"), [("wav", b"RIFF"), ("flac", b"fLaC"), ("ogg", b"OggS"), ("opus", b"OggS"), ("mp3", None)]
)
def test_every_format(client, format, begins):
    answer = client.post("/v1/generate", params={"format": format}, json=QUICK)
    assert answer.status_code == 200
    assert begins is None or answer.content.startswith(begins)
    assert len(samples(answer.content)) > 8_000


@pytest.mark.parametrize(
    ("format", "bits", "subtype"),
    [("wav", 16, "PCM_16"), ("wav", 24, "PCM_24"), ("wav", 32, "FLOAT"), ("flac", 24, "PCM_24"), ("", 24, "PCM_24")],
)
def test_bits_of_a_sample(client, model, tmp_path, format, bits, subtype):
    """The file is that of the command line with the same bits, tags and all."""
    query = {"format": format, "bits": bits}
    data = client.post("/v1/generate", params=query, json=QUICK | {"seed": 42}).content
    assert soundfile.info(io.BytesIO(data)).subtype == subtype
    file = tmp_path / f"a.{format or 'wav'}"
    options = ["--seconds", 0.2, "--steps", 2, "--window-seconds", 0.2, "--seed", 42, "--model", model, "--threads", 1]
    succeed([COMMAND, "gen", "kick drum", *options, "--bits", bits, "-o", file])
    assert file.read_bytes() == data
    id = client.post("/v1/jobs", json=QUICK | {"seed": 42}).json()["id"]
    until_ended(client, id)
    assert client.get(f"/v1/jobs/{id}/audio", params=query).content == data


def test_bits_that_a_format_cannot_have(client):
    for query, expected in (
        ({"format": "flac", "bits": "32"}, "expected 16 or 24"),
        ({"format": "mp3", "bits": "16"}, "expected none: the format is compressed"),
        ({"bits": "17"}, "expected 16 or 24 or 32"),
        ({"bits": "١٦"}, "expected 16 or 24 or 32"),
    ):
        for answer in (client.post("/v1/generate", params=query, json=QUICK), client.get("/v1/jobs/x/audio", params=query)):
            assert answer.status_code == 422
            assert expected in answer.json()["error"]["message"]
    assert client.get("/v1/options").json()["bits"] == {"wav": [16, 24, 32], "flac": [16, 24]}


def test_a_prompt_without_words(client):
    """It is taken for a slip, unless there is a recording to start from."""
    for body in ({"prompt": ""}, {"prompt": " \n"}):
        for answer in (client.post("/v1/generate", json=QUICK | body), client.post("/v1/jobs", json=QUICK | body)):
            assert answer.status_code == 422
            assert "the prompt is empty" in answer.json()["error"]["message"]
    sound = client.post("/v1/generate", json=QUICK).content
    form = {"request": (None, json.dumps(QUICK | {"prompt": ""})), "audio": ("a.wav", sound)}
    assert client.post("/v1/generate", files=form).status_code == 200


@pytest.mark.parametrize(
    ("accept", "type"),
    [
        ("audio/flac", "audio/flac"),
        ("audio/mpeg;q=0.9, audio/wav;q=0.1", "audio/mpeg"),
        ("*/*", "audio/wav"),
        ("", "audio/wav"),
    ],
)
def test_accept_chooses_a_format(client, accept, type):
    assert client.post("/v1/generate", json=QUICK, headers={"accept": accept}).headers["content-type"] == type


def test_a_job_from_its_question_to_its_end(client):
    answer = client.post("/v1/jobs", json=QUICK | {"seed": 7, "steps": 6, "preview": True})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    events = server_sent(client, job["id"])
    names = [name for name, _ in events]
    assert names[-1] == "done"
    assert "preview" in names
    fractions = [data["fraction"] for name, data in events if name == "running"]
    assert fractions == sorted(fractions)
    assert {data["steps"] for name, data in events if name == "running"} <= {0, 6}
    shown = client.get(f"/v1/jobs/{job['id']}").json()
    assert (shown["state"], shown["seed"], shown["seconds_left"]) == ("done", 7, 0)
    assert shown["seconds"] == pytest.approx(0.2, abs=1e-4)
    whole = client.get(shown["audio"], params={"format": "flac"})
    again = client.post("/v1/generate", json=QUICK | {"seed": 7, "steps": 6}, params={"format": "flac"})
    np.testing.assert_array_equal(samples(whole.content), samples(again.content))


def test_a_job_that_has_ended_can_be_dropped(client):
    id = client.post("/v1/jobs", json=QUICK).json()["id"]
    until_ended(client, id)
    assert client.delete(f"/v1/jobs/{id}").status_code == 200
    assert client.get(f"/v1/jobs/{id}").status_code == 404
    assert client.get(f"/v1/jobs/{id}/audio").status_code == 404


@pytest.fixture(scope="module")
def kept(address):
    """A clip that has been made: its address, and its file."""
    with httpx.Client(base_url=address, timeout=GUARD) as client:
        id = client.post("/v1/jobs", json=QUICK | {"seed": 1}).json()["id"]
        until_ended(client, id)
        yield f"/v1/jobs/{id}/audio", client.get(f"/v1/jobs/{id}/audio").content


@pytest.mark.parametrize(
    ("range", "status", "part"),
    [
        ("bytes=0-99", 206, slice(0, 100)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=-50", 206, slice(-50, None)),
        ("bytes=0-999999999", 206, slice(None)),
        ("bytes=999999999-", 416, None),
        ("bytes=5-2", 416, None),
        ("bytes=-", 200, slice(None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
    ],
)
def test_ranges(client, kept, range, status, part):
    path, whole = kept
    answer = client.get(path, headers={"range": range})
    assert answer.status_code == status
    assert answer.headers["accept-ranges"] == "bytes"
    if part is not None:
        assert answer.content == whole[part]


def test_starting_from_audio_that_is_sent(client):
    recording = client.post("/v1/generate", json=QUICK | {"seed": 3}).content
    form = {"request": json.dumps(QUICK | {"init_noise_level": 0.5, "seed": 1})}
    answer = client.post("/v1/generate", data=form, files={"audio": ("a.wav", recording)})
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.headers["x-sao-recipe"])["sao-onnx"]["init_audio"] == ""


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "x", "seconds": -1},
        {"prompt": "x", "second": 1},
        {"prompt": "x", "model": "other"},
        {"prompt": "x", "init_audio": "/etc/passwd"},
        {"prompt": "x", "latents": [[1]]},
        {"prompt": "x" * 3_000},
        {"prompt": "x", "steps": 1_000},
        {"prompt": "x", "steps": "8"},
        {"prompt": 5},
        {"seconds": 1},
    ],
)
def test_what_cannot_be_made_is_refused_at_once(client, body):
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"]


def test_models_options_probes_metrics(client):
    models = client.get("/v1/models").json()["data"]
    assert [(model["id"], model["default"]) for model in models] == [("miniature", True)]
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json()["status"] == "ready"
    client.post("/v1/generate", json=QUICK)
    assert 'sao_onnx_clips_total{model="miniature",state="done"}' in client.get("/metrics").text


def test_a_client_that_leaves_ends_its_work(client):
    body = json.dumps(LONG).encode()
    host, port = client.base_url.host, client.base_url.port
    with socket.create_connection((host, port)) as leaving:
        head = f"POST /v1/generate HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
        leaving.sendall(head.encode() + body)
        deadline = time.monotonic() + GUARD
        while client.get("/readyz").json()["running"] == 0:
            assert time.monotonic() < deadline
    while client.get("/readyz").json()["running"]:
        assert time.monotonic() < deadline
    assert 'state="cancelled"} 0.0' not in client.get("/metrics").text


def test_cancelling_a_job(client):
    id = client.post("/v1/jobs", json=LONG).json()["id"]
    assert client.delete(f"/v1/jobs/{id}").status_code in (200, 202)
    assert until_ended(client, id)["state"] == "cancelled"


def test_a_full_queue_says_when_to_come_again(tmp_path, model):
    with (
        serving(tmp_path, "--model", model, "--queue", 1) as process,
        httpx.Client(base_url=address_of(process, tmp_path), timeout=GUARD) as client,
    ):
        answers = [client.post("/v1/jobs", json=LONG) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [202, 202, 429, 429]
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert client.get("/healthz").status_code == 200
        for answer in answers[:2]:
            client.delete(answer.headers["location"])


def test_a_signal_ends_it_in_order(tmp_path, model):
    """The clip at hand ends or is cancelled, who listens to it hears so, and what waits is not begun."""

    def end(process, folder: Path, number: signal.Signals) -> str:
        address = address_of(process, folder)
        # The one at hand takes longer than the server waits for it.
        with httpx.Client(base_url=address, timeout=GUARD) as client, concurrent.futures.ThreadPoolExecutor(2) as pool:
            ids = [client.post("/v1/jobs", json=LONG).json()["id"] for _ in range(2)]
            wait_until(lambda: client.get(f"/v1/jobs/{ids[0]}").json()["step"], process)
            heard = [pool.submit(until_ended, client, id) for id in ids]
            wait_until(lambda: "running" in client.get("/readyz").text, process)
            process.send_signal(number)
            assert [each.result()["state"] for each in heard] == ["cancelled", "cancelled"]
        assert process.wait(GUARD) == 0
        return (folder / "log").read_text()

    numbers = (signal.SIGTERM, signal.SIGINT)
    folders = [tmp_path / number.name for number in numbers]
    with contextlib.ExitStack() as stack:
        for folder in folders:
            folder.mkdir()
        processes = [stack.enter_context(serving(folder, "--model", model)) for folder in folders]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for log in pool.map(end, processes, folders, numbers):
                assert "Traceback" not in log
                assert "timeout" not in log


def test_who_waits_for_a_clip_hears_that_the_server_ends(tmp_path):
    """Signals that come again do no harm, and later end it at once, beneath a step that runs: no abort, no traceback."""
    slow = {"prompt": "rain", "steps": 200}  # Of sao-tiny, whose steps take a while.
    with (
        serving(tmp_path) as process,
        httpx.Client(base_url=address_of(process, tmp_path), timeout=GUARD) as client,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        id = client.post("/v1/jobs", json=slow).json()["id"]
        wait_until(lambda: client.get(f"/v1/jobs/{id}").json()["step"], process)
        answer = pool.submit(client.post, "/v1/generate", json=slow)
        wait_until(lambda: client.get("/readyz").json()["queued"], process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)  # Some programs send them in pairs.
        assert answer.result().status_code == 503
        assert answer.result().json()["error"]["type"] == "EndingError"
        time.sleep(PATIENCE + 0.1)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        assert process.wait(GUARD) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_answers_without_their_bodies(client):
    id = client.post("/v1/jobs", json=LONG).json()["id"]
    for path in ("/", "/healthz", "/v1/models", f"/v1/jobs/{id}", f"/v1/jobs/{id}/events"):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path
    client.delete(f"/v1/jobs/{id}")


def test_two_servers_cannot_share_a_port(tmp_path, address):
    done = run([COMMAND, "serve", "--port", address.rpartition(":")[2]], cwd=tmp_path)
    assert done.returncode == 1
    assert "choose another --port" in done.stderr


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_an_address_of_the_sixth_version(tmp_path, model):
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 address of its own")
    with serving(tmp_path, "--host", "::1", "--model", model) as process:
        address = address_of(process, tmp_path)
        assert address.startswith("http://[::1]:")
        assert httpx.get(f"{address}/healthz").status_code == 200


def test_networks_are_let_go_after_a_while(tmp_path):
    psutil = pytest.importorskip("psutil")
    with serving(tmp_path, "--unload-after", 1) as process:
        address = address_of(process, tmp_path)
        before = httpx.post(f"{address}/v1/generate", json=QUICK | {"seed": 1}, timeout=GUARD).content
        loaded = psutil.Process(process.pid).memory_info().rss
        wait_until(lambda: psutil.Process(process.pid).memory_info().rss < loaded, process)
        again = httpx.post(f"{address}/v1/generate", json=QUICK | {"seed": 1}, timeout=GUARD).content
    assert before == again


def test_no_prompt_is_logged(tmp_path):
    with serving(tmp_path) as process:
        address = address_of(process, tmp_path)
        httpx.post(f"{address}/v1/generate", json=QUICK | {"prompt": "a secret of mine"}, timeout=GUARD)
        httpx.post(f"{address}/v1/generate", json={"prompt": "a secret of mine", "nonsense": 1}, timeout=GUARD)
        interrupt(process, signal.SIGTERM)
    assert "secret" not in (tmp_path / "log").read_text()
