"""Configurations as they are published and as people write them: what is accepted, noted, or refused in which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sao_onnx_convert import UnsupportedModelError
from sao_onnx_convert.source.config import load_config, parse_config
from tests.conftest import ROOT

SNARE_LENGTH = {"id": "tail_seconds", "type": "number", "config": {"min_val": 0, "max_val": 9}}
WET = {"id": "wetness", "type": "number", "config": {"min_val": 0, "max_val": 1}}


@pytest.fixture
def published(model_config) -> dict[str, Any]:
    """The miniature's file as a publisher would leave it: with marks of the training, in another order."""
    autoencoder = model_config["model"]["pretransform"]["config"]
    autoencoder["encoder"]["requires_grad"] = False
    autoencoder["decoder"]["requires_grad"] = True
    autoencoder["bottleneck"] |= {"requires_grad": False, "config": {}}
    model_config["model"]["pretransform"] |= {"chunked": True, "enable_grad": False}
    model_config["training"] = {"use_ema": True, "clip_grad_norm": 1.0, "cfg_dropout_prob": 0.1}
    return dict(sorted(model_config.items()))


def test_a_published_file(published):
    notes: list[str] = []
    config = parse_config(published, notes.append)
    assert config.window_frames == published["sample_size"]
    assert config.channels == 2
    assert notes == []


def test_more_numbers_in_the_global_condition(published):
    """A model trained with further numbers; only the first is in the cross-attention."""
    networks = published["model"]
    networks["conditioning"]["configs"] += [SNARE_LENGTH, WET]
    networks["diffusion"]["global_cond_ids"] += ["tail_seconds", "wetness"]
    networks["diffusion"]["config"]["global_cond_dim"] = 3 * 32
    config = parse_config(published)
    assert [number.id for number in config.numbers] == ["seconds_total", "tail_seconds", "wetness"]
    assert config.numbers[1].config.max_val == 9.0


def test_what_nobody_reads_is_noted_once(published):
    """Unknown fields where the reference picks its own by name: one line lists them, and nothing else changes."""
    plain = parse_config(published)
    published |= {"_comment": "mixed on a Tuesday", "lora": {"rank": 16}, "dataset": None}
    networks = published["model"]
    networks["name"] = "drums"
    networks["pretransform"]["ckpt"] = "/data/vae.ckpt"
    networks["pretransform"]["config"]["encoder"]["frozen"] = True
    networks["pretransform"]["config"]["bottleneck"]["kl_weight"] = 1e-4
    networks["conditioning"]["configs"][1]["comment"] = "seconds"
    networks["diffusion"]["notes"] = []
    notes: list[str] = []
    config = parse_config(published, notes.append)
    (line,) = notes
    assert "\n" not in line
    for field in (
        "_comment",
        "dataset",
        "model.name",
        "model.pretransform.ckpt",
        "model.pretransform.config.encoder.frozen",
        "model.pretransform.config.bottleneck.kl_weight",
        "model.conditioning.configs[1].comment",
        "model.diffusion.notes",
    ):
        assert field in line
    assert "lora" not in line
    assert config.model == plain.model


def test_the_references_defaults(published):
    """What a constructor of the reference has a default for may be left out; a default that is not supported is refused."""
    networks = published["model"]
    del networks["conditioning"]["configs"][0]["config"]["t5_model_name"]
    del networks["pretransform"]["iterate_batch"]
    del published["audio_channels"]
    networks["diffusion"]["config"].pop("transformer_type")
    networks["diffusion"]["config"] |= {"timestep_embed_dim": None, "zero_init_branch_outputs": False}
    networks["diffusion"] |= {"input_concat_ids": [], "prepend_cond_ids": [], "distribution_shift_options": None}
    networks["pretransform"]["config"] |= {"in_channels": None, "pretransform": None}
    config = parse_config(published)
    assert config.prompt.config.t5_model_name == "t5-base"
    assert config.channels == 2
    del networks["pretransform"]["config"]["decoder"]["config"]["use_snake"]
    with pytest.raises(UnsupportedModelError, match=r"decoder\.config\.use_snake: found False, expected True"):
        parse_config(published)


def test_a_length_between_two_latents_is_floored(published):
    published["sample_size"] = 176128 + 511
    config = parse_config(published)
    assert (config.window, config.window_frames) == (344, 176128)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark(published, tmp_path, encoding):
    path = tmp_path / "model_config.json"
    path.write_text(json.dumps(published | {"_comment": "Schlagzeug, für später"}, ensure_ascii=False), encoding=encoding)
    assert load_config(path).sample_rate == 44100


def test_without_an_objective(published):
    """Stable Audio Open 1.0's file has no objective. The message names that model and does not ask for a field."""
    networks = published["model"]
    del networks["diffusion"]["diffusion_objective"]
    # What is unknown besides must not be what the message is about.
    networks["diffusion"]["config"]["something"] = 1
    with pytest.raises(
        UnsupportedModelError, match=r"not given, which means 'v'.*Stable Audio Open 1\.0.*not supported"
    ) as caught:
        parse_config(published)
    assert "missing" not in str(caught.value)
    assert "unknown" not in str(caught.value)


def test_a_base_model(published):
    """Its objective is accepted, and so is the shift that the reference's samplers do not read."""
    networks = published["model"]
    networks["diffusion"] |= {
        "diffusion_objective": "rectified_flow",
        "distribution_shift_options": {"min_length": 64, "max_length": 1024},
    }
    notes: list[str] = []
    assert parse_config(published, notes.append).objective == "rectified_flow"
    assert notes == []
    networks["diffusion"]["config"]["num_heads"] = 3
    with pytest.raises(UnsupportedModelError, match="num_heads"):
        parse_config(published)


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("small", "rf_denoiser"),
        ("small_five_more_numbers", "rf_denoiser"),
        ("small_base", "rectified_flow"),
        ("small_base_short_window", "rectified_flow"),
    ],
)
def test_files_as_they_are_published(name, objective):
    assert load_config(_published_file(name)).objective == objective


@pytest.mark.parametrize(
    ("name", "match"),
    [("open_1_0", "not given, which means 'v'"), ("small_other_text_encoder", "t5_model_name: found .*, expected a T5")],
)
def test_published_files_that_are_refused(name, match):
    with pytest.raises(UnsupportedModelError, match=match):
        load_config(_published_file(name))


def _published_file(name: str) -> Path:
    path = ROOT.parent / "shared" / "real" / "configs" / f"{name}.json"
    if not path.is_file():
        pytest.skip("the published configurations are not beside this checkout")
    return path


@pytest.mark.parametrize("name", ["google/t5gemma-b-b-ul2", "google/umt5-xl", "google/byt5-small", "roberta-base", "t5gemma"])
@pytest.mark.parametrize("objective", ["rf_denoiser", "rectified_flow"])
def test_another_text_encoder(published, name, objective):
    published["model"]["conditioning"]["configs"][0]["config"]["t5_model_name"] = name
    published["model"]["diffusion"]["diffusion_objective"] = objective
    with pytest.raises(UnsupportedModelError, match=f"t5_model_name: found '{name}', expected a T5 such as 't5-base'"):
        parse_config(published)


@pytest.mark.parametrize(
    "name", ["t5-base", "google-t5/t5-base", "google/flan-t5-base", "/data/models/text_encoder", "me/my-t5"]
)
def test_names_that_may_be_a_t5(published, name):
    published["model"]["conditioning"]["configs"][0]["config"]["t5_model_name"] = name
    assert parse_config(published).prompt.config.t5_model_name == name


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "it is empty"),
        (b"{", "cannot be read as JSON"),
        (b"[]", "found \\[\\], expected an object"),
        (b"null", "expected an object"),
        (b'{"model_type": "autoencoder", "model": {}}', "describes an autoencoder alone"),
        (
            b'{"model_type": "diffusion_cond", "model": ' + b"[" * 900 + b"]" * 900 + b"}",
            "expected an object|missing",
        ),
        (b'"model"', "expected an object"),
        (b"\x93NUMPY\x01\x00\xff\xfe", "cannot be read as JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html>\n<html lang='en'>", r"web page \(HTML\)"),
        (b'{"model_type": "diffusion_cond", "sample_size": ' + b"9" * 5000 + b"}", "model_config.json"),
        (b'{"sample\\nsize": 1}', "model_type: missing"),
        (b"\0" * 300, "zero bytes"),
    ],
)
def test_hostile_files(tmp_path, content, match):
    path = tmp_path / "model_config.json"
    path.write_bytes(content)
    with pytest.raises(UnsupportedModelError, match=match) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_a_field_that_stands_there_twice(published, tmp_path):
    """The reference would take the last of two different values without a word; that is no way to find out which was meant."""
    path = tmp_path / "model_config.json"
    text = json.dumps(published)
    path.write_text(text.replace('"depth": 2', '"depth": 3, "depth": 2'))
    with pytest.raises(UnsupportedModelError, match=r"model\.diffusion\.config\.depth: occurs twice"):
        load_config(path)
    path.write_text(text.replace('"depth": 2', '"depth": 2, "depth": 2'))
    assert load_config(path).model.diffusion.config.depth == 2
    path.write_text(text.replace('"use_ema": true', '"use_ema": false, "use_ema": true'))
    load_config(path)
