"""The interfaces of others, by their own clients where they have one that can be installed."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import sys
from typing import Any

import numpy as np
import pytest
import soundfile

from sao_onnx.serve.adapters.elevenlabs import KILOBITS, RATES, guidance
from tests.conftest import ROOT
from tests.processes import run, succeed

FORMATS = [
    f"{codec}_{rate}" + (f"_{kilobits}" if kilobits else "")
    for codec, rates in RATES.items()
    for rate in rates
    for kilobits in KILOBITS.get(codec, (0,))
]
"""More than their client names; those of the client are among them."""


@pytest.fixture
def elevenlabs(address):
    client = pytest.importorskip("elevenlabs.client", reason="the elevenlabs client is not installed")
    return client.ElevenLabs(api_key="any", base_url=address)


QUICK: dict[str, Any] = {"additional_body_parameters": {"steps": 2, "seed": 3}}
"""Beside what their client knows of; the server takes them."""


def convert(client, **options) -> bytes:
    wanted = {"text": "kick drum", "duration_seconds": 0.5, "request_options": QUICK} | options
    return b"".join(client.text_to_sound_effects.convert(**wanted))


def test_every_format_of_the_elevenlabs_client_is_made_or_refused_in_its_words():
    types = pytest.importorskip("elevenlabs.text_to_sound_effects.types", reason="the elevenlabs client is not installed")
    import typing

    named = typing.get_args(typing.get_args(types.TextToSoundEffectsConvertRequestOutputFormat)[0])
    assert len(named) > 20
    assert set(named) <= set(FORMATS)


@pytest.mark.parametrize("format", ["mp3_44100_128", "mp3_22050_32", "mp3_24000_48", "opus_48000_96", "wav_44100", "wav_8000"])
def test_sound_effects_with_the_elevenlabs_client(elevenlabs, format):
    samples, rate = soundfile.read(io.BytesIO(convert(elevenlabs, output_format=format)))
    assert rate == int(format.split("_")[1])
    assert len(samples) / rate == pytest.approx(0.5, abs=0.08)
    assert np.abs(samples).max() > 0.1


@pytest.mark.parametrize(
    ("format", "bytes"), [("pcm_16000", 16_000), ("pcm_48000", 48_000), ("ulaw_8000", 4_000), ("alaw_8000", 4_000)]
)
def test_sound_effects_without_a_header_have_one_channel(elevenlabs, format, bytes):
    assert len(convert(elevenlabs, output_format=format)) == bytes


def test_the_default_of_the_elevenlabs_client(elevenlabs):
    assert convert(elevenlabs)[:1] == b"\xff"


def test_errors_reach_the_elevenlabs_client(elevenlabs):
    from elevenlabs.core.api_error import ApiError

    for wrong in ({"output_format": "mp3_1_2"}, {"prompt_influence": 7.0}):
        with pytest.raises(ApiError) as caught:
            convert(elevenlabs, **wrong)
        assert caught.value.status_code == 422
        assert caught.value.body["detail"]["message"]


def test_influence_becomes_guidance_above_its_default():
    assert guidance(None) is guidance(0.3) is guidance(0.0) is None
    assert guidance(1.0) == pytest.approx(4)
    assert guidance(0.65) == pytest.approx(2.5)


def test_vllm_omni(client):
    body = {"input": "kick", "audio_length": 0.3, "response_format": "flac", "seed": 4, "num_inference_steps": 2}
    answer = client.post("/v1/audio/generate", json=body)
    assert answer.headers["content-type"] == "audio/flac"
    assert answer.headers["x-sao-seed"] == "4"
    refused = client.post("/v1/audio/generate", json=body | {"response_format": "aac"})
    assert refused.status_code == 422
    assert "response_format" in refused.json()["error"]["message"]


def stability(client, kind, accept="audio/*", audio=None, **fields):
    files = {"none": (None, "")} if audio is None else {"audio": ("a.wav", audio)}
    data = {"prompt": "kick", "steps": "2", "output_format": "wav"} | fields
    return client.post(f"/v2beta/audio/stable-audio-2/{kind}", data=data, files=files, headers={"accept": accept})


def test_stability(client):
    made = stability(client, "text-to-audio", duration="0.3", seed="9")
    assert (made.headers["content-type"], made.headers["seed"]) == ("audio/wav", "9")
    coded = stability(client, "text-to-audio", "application/json", duration="0.3", seed="9").json()
    assert base64.b64decode(coded["audio"]) == made.content
    assert (coded["seed"], coded["finish_reason"]) == (9, "SUCCESS")
    again = stability(client, "audio-to-audio", audio=made.content, strength="0.4")
    assert again.status_code == 200, again.text
    painted = stability(client, "inpaint", audio=made.content, mask_start="0.1", mask_end="0.2", seed="2")
    assert painted.status_code == 200, painted.text
    kept, new = (soundfile.read(io.BytesIO(data.content), dtype="int16")[0] for data in (made, painted))
    np.testing.assert_array_equal(kept[:2_000], new[:2_000])
    refused = stability(client, "audio-to-audio")
    assert refused.status_code == 422
    assert refused.json()["errors"]


@pytest.mark.parametrize("prefix", ["", "/audio"])
def test_gary4juce(client, prefix):
    details = client.get(f"{prefix}/models/status").json()["model_details"]
    assert details["miniature"]["type"] == "standard"
    body = {
        "prompt": "techno 140bpm",
        "steps": 2,
        "cfg_scale": 1.0,
        "return_format": "base64",
        "seed": -1,
        "model_type": "standard",
    }
    made = client.post(f"{prefix}/generate/loop", json=body | {"sampler_type": "pingpong", "loop_type": "drums"}).json()
    assert made["success"] is True
    about = made["metadata"]
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(made["audio_base64"])))
    assert len(samples) / rate == pytest.approx(about["loop_duration_seconds"], abs=0.01)
    assert about["bars"] * 4 * 60 / 140 == pytest.approx(about["loop_duration_seconds"], abs=0.01)
    assert {"generation_time", "realtime_factor"} <= about.keys()
    plain = client.post(f"{prefix}/generate", json=body).json()
    assert plain["success"] is True
    refused = client.post(f"{prefix}/generate/loop", json=body | {"prompt": "techno"})
    assert refused.json()["success"] is False
    tuned = client.post(
        f"{prefix}/models/switch", json={"model_type": "finetune", "finetune_repo": "a/b", "finetune_checkpoint": "c"}
    )
    assert tuned.json()["success"] is False


def test_gary4juce_style_transfer(client):
    audio = stability(client, "text-to-audio", duration="0.3").content
    data = {"prompt": "rain", "steps": "2", "style_strength": "0.5", "return_format": "base64"}
    made = client.post("/generate/style-transfer", data=data, files={"audio_file": ("a.wav", audio)})
    assert made.json()["success"] is True


def test_a_loop_for_elevenlabs_has_the_length_that_was_asked_for(elevenlabs):
    data = convert(elevenlabs, text="rain", duration_seconds=1.5, loop=True, output_format="wav_44100")
    samples, rate = soundfile.read(io.BytesIO(data))
    assert len(samples) == pytest.approx(1.5 * rate, abs=1)


def test_more_than_the_window_is_extended(elevenlabs):
    data = convert(elevenlabs, text="rain", duration_seconds=6, output_format="wav_44100")
    samples, rate = soundfile.read(io.BytesIO(data))
    assert len(samples) == pytest.approx(6 * rate, abs=1)


def examples(language: str) -> list[str]:
    """What the notes tell clients to do, in one language."""
    text = (ROOT / "engine" / "server" / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_example_in_python(address, tmp_path):
    [code] = [code for code in examples("python") if "httpx" in code]
    lines = succeed([sys.executable, "-c", code.replace("http://localhost:8005", address)], cwd=tmp_path).split()
    assert float(lines[-1]) == 1
    assert soundfile.info(tmp_path / "rain.flac").duration == pytest.approx(2, abs=0.01)


def test_the_example_with_the_elevenlabs_client(address, tmp_path, monkeypatch):
    pytest.importorskip("elevenlabs.client", reason="the elevenlabs client is not installed")
    monkeypatch.chdir(tmp_path)
    [code] = [code for code in examples("python") if "elevenlabs" in code]
    exec(code.replace("http://localhost:8005", address), {})
    assert soundfile.info(tmp_path / "rain.mp3").duration == pytest.approx(2, abs=0.1)


def test_the_example_in_javascript(address, tmp_path):
    node = shutil.which("node")
    if node is None or run([node, "--eval", "process.exit(typeof fetch === 'function' ? 0 : 1)"]).returncode:
        pytest.skip("Node from version 18 on is not installed")
    [code] = [code for code in examples("js") if "node:fs" in code]
    (tmp_path / "example.mjs").write_text(code.replace("http://localhost:8005", address), encoding="utf-8")
    assert succeed([node, "example.mjs"], cwd=tmp_path).split()[-1] == "1"
    assert soundfile.info(tmp_path / "rain.mp3").duration == pytest.approx(2, abs=0.1)


def test_the_examples_with_curl(address, tmp_path):
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    [code] = [code for code in examples("sh") if "curl" in code]
    lines = [line for line in code.splitlines() if "$(cat key)" not in line]
    script = "set -e\n" + "\n".join(lines).replace("http://localhost:8005", address).replace("curl ", "curl -sSf ")
    succeed(["sh", "-c", script], cwd=tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(set(re.findall(r"-o (\S+)", script)))


def test_what_clients_of_localai_send(client):
    """Its fields for sound generation; a model that is not here, and what is not ours, do no harm."""
    body = {"text": "kick", "model_id": "ace-step-turbo", "duration_seconds": 0.5, "prompt_influence": 0.3, "do_sample": True}
    more = {"think": False, "caption": "", "lyrics": "", "bpm": 120, "keyscale": "", "language": "en", "timesignature": "4"}
    answer = client.post("/v1/sound-generation", json=body | more)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/mpeg")
