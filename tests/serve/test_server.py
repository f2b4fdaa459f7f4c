"""The server as a process."""

from __future__ import annotations

import concurrent.futures
import io
import json
import random
import signal
import socket
import time
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from sao_onnx.provenance import read_provenance
from tests.processes import COMMAND, GUARD, interrupt, run, succeed, wait_until
from tests.serve.conftest import address_of, serving

QUICK = {"prompt": "kick drum", "seconds": 0.2, "steps": 2}


def samples(data: bytes) -> np.ndarray[Any, Any]:
    found, _ = soundfile.read(io.BytesIO(data), dtype="int16")
    return found


def server_sent(client, id: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    with client.stream("GET", f"/v1/jobs/{id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        event = ""
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "data":
                found.append((event, json.loads(value)))
    return found


def until_ended(client, id: str) -> dict[str, Any]:
    return server_sent(client, id)[-1][1]


def test_a_clip_is_that_of_the_command_line(client, tmp_path):
    answer = client.post("/v1/generate", json=QUICK | {"seed": 42})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["x-sao-seed"] == "42"
    succeed([COMMAND, "gen", "kick drum", "--seconds", 0.2, "--steps", 2, "--seed", 42, "-o", tmp_path / "a.wav"])
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
def test_ranges(client, range, status, part):
    id = client.post("/v1/jobs", json=QUICK | {"seed": 1}).json()["id"]
    until_ended(client, id)
    whole = client.get(f"/v1/jobs/{id}/audio").content
    answer = client.get(f"/v1/jobs/{id}/audio", headers={"range": range})
    assert answer.status_code == status
    assert answer.headers["accept-ranges"] == "bytes"
    if part is not None:
        assert answer.content == whole[part]


def test_starting_from_audio_that_is_sent(client):
    recording = client.post("/v1/generate", json=QUICK | {"seed": 3}).content
    form = {"request": json.dumps({"prompt": "rain", "steps": 2, "seconds": 0.2, "init_noise_level": 0.5, "seed": 1})}
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
    assert [(model["id"], model["default"]) for model in models] == [("sao-tiny", True)]
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json()["status"] == "ready"
    client.post("/v1/generate", json=QUICK)
    assert 'sao_onnx_clips_total{model="sao-tiny",state="done"}' in client.get("/metrics").text


def test_a_client_that_leaves_ends_its_work(client):
    body = json.dumps({"prompt": "rain", "steps": 200}).encode()
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
    id = client.post("/v1/jobs", json={"prompt": "rain", "steps": 200}).json()["id"]
    assert client.delete(f"/v1/jobs/{id}").status_code in (200, 202)
    assert until_ended(client, id)["state"] == "cancelled"


def test_many_clients_at_once_get_what_each_asked_for(address):
    """A hundred requests from twenty clients, a quarter of them cancelled."""

    def ask(index: int) -> tuple[int, str, bytes]:
        chance = random.Random(index)
        with httpx.Client(base_url=address, timeout=GUARD) as client:
            job = client.post("/v1/jobs", json=QUICK | {"seed": index % 10, "window_seconds": 0.2}).json()
            if index % 4 == 0:
                time.sleep(chance.random() / 10)
                client.delete(f"/v1/jobs/{job['id']}")
            ended = until_ended(client, job["id"])
            if ended["state"] != "done":
                return index, ended["state"], b""
            return index, "done", client.get(f"/v1/jobs/{job['id']}/audio").content

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        found = list(pool.map(ask, range(100)))
    assert {state for index, state, _ in found if index % 4} == {"done"}
    assert {state for _, state, _ in found} <= {"done", "cancelled"}
    by_seed: dict[int, set[bytes]] = {}
    for index, state, data in found:
        if state == "done":
            by_seed.setdefault(index % 10, set()).add(samples(data).tobytes())
    assert all(len(clips) == 1 for clips in by_seed.values()), "the same seed, the same clip"
    assert len(set.union(*by_seed.values())) == len(by_seed), "another seed, another clip"


def test_a_full_queue_says_when_to_come_again(tmp_path):
    with (
        serving(tmp_path, "--queue", 1) as process,
        httpx.Client(base_url=address_of(process, tmp_path), timeout=GUARD) as client,
    ):
        answers = [client.post("/v1/jobs", json={"prompt": "rain", "steps": 100}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [202, 202, 429, 429]
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert client.get("/healthz").status_code == 200
        for answer in answers[:2]:
            client.delete(answer.headers["location"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(tmp_path, number):
    """The clip at hand ends or is cancelled, who listens to it hears so, and what waits is not begun."""
    with serving(tmp_path) as process:
        address = address_of(process, tmp_path)
        # The one at hand takes longer than the server waits for it.
        with httpx.Client(base_url=address, timeout=GUARD) as client, concurrent.futures.ThreadPoolExecutor(2) as pool:
            long = {"prompt": "rain", "steps": 200, "seconds": 100}
            ids = [client.post("/v1/jobs", json=long).json()["id"] for _ in range(2)]
            wait_until(lambda: client.get(f"/v1/jobs/{ids[0]}").json()["step"], process)
            heard = [pool.submit(until_ended, client, id) for id in ids]
            wait_until(lambda: "running" in client.get("/readyz").text, process)
            process.send_signal(number)
            assert [each.result()["state"] for each in heard] == ["cancelled", "cancelled"]
        assert process.wait(GUARD) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert "timeout" not in (tmp_path / "log").read_text()


def test_answers_without_their_bodies(client):
    id = client.post("/v1/jobs", json={"prompt": "rain", "steps": 200}).json()["id"]
    for path in ("/", "/healthz", "/v1/models", f"/v1/jobs/{id}", f"/v1/jobs/{id}/events"):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path
    client.delete(f"/v1/jobs/{id}")


def test_two_servers_cannot_share_a_port(tmp_path, address):
    done = run([COMMAND, "serve", "--port", address.rpartition(":")[2]], cwd=tmp_path)
    assert done.returncode == 1
    assert "choose another --port" in done.stderr


def test_several_clips_at_once_are_those_that_one_at_a_time_makes(tmp_path, client):
    with serving(tmp_path, "--jobs", 2) as process, httpx.Client(timeout=GUARD) as other:
        address = address_of(process, tmp_path)
        bodies = [QUICK | {"seed": seed} for seed in range(4)]
        ids = [other.post(f"{address}/v1/jobs", json=body).json()["id"] for body in bodies]
        for body, id in zip(bodies, ids, strict=True):
            with httpx.Client(base_url=address, timeout=GUARD) as listening:
                assert until_ended(listening, id)["state"] == "done"
            found = samples(other.get(f"{address}/v1/jobs/{id}/audio").content).astype(int)
            alone = samples(client.post("/v1/generate", json=body).content).astype(int)
            # Another number of threads may round otherwise.
            assert np.abs(found - alone).max() <= 2


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_an_address_of_the_sixth_version(tmp_path):
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 address of its own")
    with serving(tmp_path, "--host", "::1") as process:
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


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "--key-file"),
        (["--model", "nothing"], "nothing"),
        (["--key-file", "none"], "none"),
        (["--precision", "fp64"], "fp64"),
    ],
)
def test_a_server_that_cannot_be_started_says_why(tmp_path, arguments, says):
    done = run([COMMAND, "serve", "--port", 0, *arguments], cwd=tmp_path)
    assert done.returncode in (1, 2, 3)
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run([COMMAND, "serve", "--port", taken.getsockname()[1]], cwd=tmp_path)
    assert done.returncode == 1
    assert "choose another --port" in done.stderr


def test_no_prompt_is_logged(tmp_path):
    with serving(tmp_path) as process:
        address = address_of(process, tmp_path)
        httpx.post(f"{address}/v1/generate", json=QUICK | {"prompt": "a secret of mine"}, timeout=GUARD)
        httpx.post(f"{address}/v1/generate", json={"prompt": "a secret of mine", "nonsense": 1}, timeout=GUARD)
        interrupt(process, signal.SIGTERM)
    assert "secret" not in (tmp_path / "log").read_text()
