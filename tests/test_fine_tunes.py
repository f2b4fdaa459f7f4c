"""Fine-tunes as they are published: every layout of their weights gives those of the plain file; names of their files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sao_onnx_convert import CheckpointError, UnsupportedModelError
from sao_onnx_convert.family.stable_audio_open.networks.dit import rotary_frequencies
from sao_onnx_convert.family.stable_audio_open.networks.model import AudioModel
from sao_onnx_convert.source import pickles
from sao_onnx_convert.source.config import load_config
from sao_onnx_convert.source.selection import Selection, select
from sao_onnx_convert.source.weights import Reading, read_weights

Tensors = dict[str, torch.Tensor]

T5_WIDTH = 32
EMA = "diffusion_ema.ema_model."

pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < pickles.SAFE_TORCH, reason="this PyTorch is too old for such files"
)


@pytest.fixture(scope="module")
def plain(checkpoint) -> Tensors:
    """The miniature's tensors, as they are stored."""
    return load_file(checkpoint / "model.safetensors")


@pytest.fixture(scope="module")
def trained(plain) -> Tensors:
    """The same with another transformer, as training leaves it beside its average."""
    return {name: tensor + 1 if name.startswith("model.") else tensor for name, tensor in plain.items()}


@pytest.fixture(scope="module")
def config(checkpoint):
    return load_config(checkpoint / "model_config.json")


@pytest.fixture(scope="module")
def expected(config) -> dict[str, tuple[int, ...]]:
    """Shapes of the miniature's tensors."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in AudioModel(config, T5_WIDTH).state_dict().items()}


@pytest.fixture
def read(expected, tmp_path) -> Callable[..., tuple[Tensors, Reading]]:
    """Write what torch.save or save_file is given, and read it."""

    def write(content: Any, name: str) -> Path:
        path: Path = tmp_path / name
        if path.suffix == ".safetensors":
            tensors = content.get("state_dict", content)
            tensors = tensors.get("state_dict", tensors)
            save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
        else:
            torch.save(content, path)
        return path

    def read(content: Any, base: Any = None, suffix: str = ".ckpt", **options: Any) -> tuple[Tensors, Reading]:
        path = write(content, f"model{suffix}")
        other = None if base is None else write(base, f"base{suffix}")
        reading = read_weights(expected, path, rotary_frequencies, base=other, **options)
        return reading.tensors, reading

    return read


def _same(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name].float()), name


def _put(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _below(start: str, tensors: Tensors) -> Tensors:
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _snapshot(plain: Tensors, trained: Tensors, *, averaged: bool = True) -> dict[str, Any]:
    """What Lightning saves of a training, as the reference's wrapper has it."""
    state = _put("diffusion.", trained if averaged else plain) | {
        "losses.losses.0.weight": torch.ones(()),
        "discriminator.model.model.preprocess_conv.weight": torch.full_like(plain["model.model.preprocess_conv.weight"], 7),
        "discriminator_head.0.weight": torch.ones(2, 2),
    }
    if averaged:
        average = {"diffusion_ema.initted": torch.ones(1), "diffusion_ema.step": torch.tensor([9])}
        state |= _put(EMA, _below("model.", plain)) | average
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{}": {"kth_value": torch.tensor(float("inf"))}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(2.0), "exp_avg": torch.ones(3)}}, "param_groups": []}],
        "lr_schedulers": [{"base_lrs": [1e-4]}],
        "model_config": {"model_type": "diffusion_cond"},
    }


def _compiled(tensors: Tensors) -> Tensors:
    """As torch.compile names them, of a compiled part and of the compiled whole."""
    inner = {name.replace("model.model.", "model._orig_mod.model.", 1): tensor for name, tensor in tensors.items()}
    return _put("_orig_mod.", inner)


WHOLE: dict[str, Callable[[Tensors, Tensors], Any]] = {
    "unwrapped": lambda plain, trained: {"state_dict": plain},
    "alone": lambda plain, trained: plain,
    "snapshot": _snapshot,
    "snapshot without averages": lambda plain, trained: _snapshot(plain, trained, averaged=False),
    "snapshot of a compiled model": lambda plain, trained: {
        "state_dict": {
            name.replace("diffusion.model.", "diffusion.model._orig_mod.").replace(EMA, f"{EMA}_orig_mod."): tensor
            for name, tensor in _snapshot(plain, trained)["state_dict"].items()
        }
    },
    "snapshot of several processes": lambda plain, trained: {
        "state_dict": _put("module.", _snapshot(plain, trained)["state_dict"])
    },
    "snapshot by DeepSpeed": lambda plain, trained: {
        "state_dict": _put("_forward_module.", _snapshot(plain, trained)["state_dict"])
    },
    "compiled": lambda plain, trained: {"state_dict": _compiled(plain)},
    "of several processes": lambda plain, trained: {"state_dict": _put("module.", plain)},
    "named state_dict": lambda plain, trained: _put("state_dict.diffusion.", plain),
    "of a wrapper of somebody's own": lambda plain, trained: {"state_dict": _put("generator.net.", plain)},
    "adversarial": lambda plain, trained: {
        "state_dict": _put("diffusion.", plain) | _put("teacher_model.", trained) | _put("discriminator.", trained)
    },
    "averages beside the model": lambda plain, trained: {
        "model": trained,
        "ema": {name: tensor for name, tensor in plain.items() if name.startswith("model.")},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(1)}}},
        "step": 3,
    },
    "parametrized": lambda plain, trained: {
        name.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): tensor
        for name, tensor in _put("diffusion.", plain).items()
    },
}


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("layout", WHOLE)
def test_every_layout_gives_the_same_weights(read, plain, trained, layout, suffix):
    content = WHOLE[layout](plain, trained)
    if suffix == ".safetensors" and "model" in content:
        pytest.skip("a safetensors file has no levels")
    found, reading = read(content, suffix=suffix)
    _same(found, plain)
    averaged = "averages" in layout or "snapshot" in layout
    assert reading.averaged == (("transformer",) if averaged and "without" not in layout else ())
    assert not reading.borrowed


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_weights_that_were_not_averaged(read, plain, trained, suffix):
    found, reading = read(_snapshot(plain, trained), suffix=suffix, average=False)
    _same(found, trained)
    assert not reading.averaged
    # Where there are no averages, nothing is different.
    _same(read(_snapshot(plain, trained, averaged=False), suffix=suffix, average=False)[0], plain)


PARTS: dict[str, tuple[Callable[[Tensors, Tensors], Any], tuple[str, ...]]] = {
    "transformer": (lambda plain, trained: _put("model.", _below("model.", plain)), ("conditioners", "autoencoder")),
    "transformer, bare": (lambda plain, trained: _below("model.model.", plain), ("conditioners", "autoencoder")),
    "transformer, half bare": (lambda plain, trained: _below("model.", plain), ("conditioners", "autoencoder")),
    "averages alone": (lambda plain, trained: _put(EMA, _below("model.", plain)), ("conditioners", "autoencoder")),
    "ema-pytorch's own file": (
        lambda plain, trained: _put("ema_model.", _below("model.", plain)) | _put("online_model.", _below("model.", trained)),
        ("conditioners", "autoencoder"),
    ),
    "pre-encoded": (
        lambda plain, trained: {
            name: tensor
            for name, tensor in _snapshot(plain, trained)["state_dict"].items()
            if not name.startswith("diffusion.pretransform.")
        },
        ("autoencoder",),
    ),
    "without conditioners": (
        lambda plain, trained: {name: tensor for name, tensor in plain.items() if not name.startswith("conditioner.")},
        ("conditioners",),
    ),
    "another autoencoder": (
        lambda plain, trained: (
            _put("autoencoder.", _below("pretransform.model.", plain))
            | {"discriminator.discriminators.0.weight": torch.ones(3)}
        ),
        ("transformer", "conditioners"),
    ),
}


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("layout", PARTS)
def test_parts_that_are_missing_come_from_the_base(read, plain, trained, layout, suffix):
    make, missing = PARTS[layout]
    content = {"state_dict": make(plain, trained)}
    starts = {"transformer": "model.", "conditioners": "conditioner.", "autoencoder": "pretransform."}
    lent = tuple(starts[part] for part in missing)
    # Whatever the base is, only what is missing comes from it.
    base = {name: tensor if name.startswith(lent) else tensor + 5 for name, tensor in plain.items()}
    found, reading = read(content, {"state_dict": base}, suffix=suffix)
    _same(found, plain)
    assert reading.borrowed == missing


def test_a_base_that_is_a_snapshot(read, plain, trained):
    found, reading = read(_below("pretransform.model.", plain), _snapshot(plain, trained))
    _same(found, plain)
    assert reading.borrowed == ("transformer", "conditioners")


def test_a_base_that_is_not_needed(read, plain, trained):
    found, reading = read({"state_dict": plain}, {"state_dict": trained})
    _same(found, plain)
    assert not reading.borrowed


def _lora(plain: Tensors) -> Tensors:
    layer = "model.transformer.layers.0.self_attn.to_qkv.parametrizations.weight.0"
    return {f"{layer}.lora_A": torch.ones(2, 2), f"{layer}.lora_B": torch.ones(2, 2)}


REFUSED: dict[str, tuple[Callable[[Tensors, Tensors], Any], dict[str, Any], str]] = {
    "LoRA": (lambda plain, trained: _lora(plain), {}, "it is a LoRA .*--lora"),
    "transformer alone": (lambda plain, trained: _below("model.", plain), {}, "it is the transformer alone; .*--base"),
    "no autoencoder": (
        lambda plain, trained: {name: t for name, t in plain.items() if not name.startswith("pretransform.")},
        {},
        "it is a model without its autoencoder; .*--base",
    ),
    "snapshot of an autoencoder": (
        lambda plain, trained: _put("autoencoder.", _below("pretransform.model.", plain))
        | _put("autoencoder_ema.ema_model.", _below("pretransform.model.", plain))
        | {"discriminator.x.weight": torch.ones(2), "losses_gen.0.weight": torch.ones(2)},
        {},
        "it is an autoencoder alone; .*--base",
    ),
    "averages alone, not wanted": (
        lambda plain, trained: _put(EMA, _below("model.", plain)),
        {"average": False},
        r"holds the transformer as averaged weights \(EMA\) alone; leave out --no-ema",
    ),
    "half of the averages": (
        lambda plain, trained: {
            name: t for name, t in _snapshot(plain, trained)["state_dict"].items() if not name.startswith(f"{EMA}model.transf")
        },
        {},
        r"averaged weights \(EMA\) of the transformer are incomplete: \d+ of \d+ .*--no-ema",
    ),
    "two models": (
        lambda plain, trained: _put("student.", plain) | _put("copy.", trained),
        {},
        r"holds several of the transformer, under 'copy\.model\.model\.' and 'student\.model\.model\.'; save the state_dict",
    ),
    "a tensor too much": (
        lambda plain, trained: _put("diffusion.", plain) | {"diffusion.model.model.extra": torch.ones(1)},
        {},
        r"not in the configured model: model\.model\.extra",
    ),
    "a tensor twice": (
        lambda plain, trained: plain | _put("module.", {name: plain[name] for name in list(plain)[:1]}),
        {},
        r"not in the configured model: module\.",
    ),
    "a tensor too few": (
        lambda plain, trained: {
            name: t for name, t in _put("diffusion.", plain).items() if not name.endswith("postprocess_conv.weight")
        },
        {},
        r"missing: model\.model\.postprocess_conv\.weight",
    ),
    "not finite": (
        lambda plain, trained: _put("diffusion.", plain)
        | {"diffusion.model.model.preprocess_conv.weight": torch.full((8, 8, 1), torch.nan)},
        {},
        r"NaN or infinite values in model\.model\.preprocess_conv\.weight",
    ),
    "only what training needs": (
        lambda plain, trained: {"losses.0.weight": torch.ones(1), "discriminator.a.weight": torch.ones(1)},
        {},
        "it holds no weights of a model",
    ),
    "another model": (
        lambda plain, trained: {"text_model.encoder.weight": torch.ones(2), "logit_scale": torch.ones(())},
        {},
        "it holds nothing of such a model, but logit_scale, text_model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_called_by_its_name(read, plain, trained, case, suffix):
    make, options, match = REFUSED[case]
    with pytest.raises(CheckpointError, match=match) as caught:
        read({"state_dict": make(plain, trained)}, suffix=suffix, **options)
    message = str(caught.value)
    assert f"model{suffix}" in message
    assert "unwrap_model" not in message
    assert "\n" not in message
    assert len(message) < 700


def test_bases_that_do_not_help(read, plain):
    alone = _below("model.", plain)
    with pytest.raises(
        CheckpointError, match=r"base\.ckpt lacks the conditioners and the autoencoder, and so does model\.ckpt"
    ):
        read(alone, alone)
    with pytest.raises(CheckpointError, match=r"base\.ckpt lacks the conditioners, and so does model\.ckpt"):
        read(alone, {name: tensor for name, tensor in plain.items() if not name.startswith("conditioner.")})
    with pytest.raises(CheckpointError, match=r"base\.ckpt does not match its configuration; misshapen: pretransform"):
        read(alone, plain | {"pretransform.model.decoder.layers.0.bias": torch.ones(3)})


def test_only_what_is_used_is_read(read, plain, trained, monkeypatch):
    """Neither optimizers nor the weights that are not averaged are touched: a snapshot may be larger than the memory."""
    from sao_onnx_convert.source import stored

    names: list[str] = []
    really = stored._Pickled.read

    def noted(self: stored._Pickled, name: str) -> torch.Tensor:
        names.append(name)
        return really(self, name)

    monkeypatch.setattr(stored._Pickled, "read", noted)
    read(_snapshot(plain, trained))
    assert len(names) == len(set(names)) == len(plain)
    assert not [
        name for name in names if name.startswith(("diffusion.model.", "losses", "discriminator", "diffusion_ema.step"))
    ]


# --- names of files


@pytest.fixture
def publish(checkpoint, tmp_path) -> Callable[..., Path]:
    """A folder with the configuration under some names, and empty files of others."""

    def publish(*names: str, folder: str = "published") -> Path:
        place: Path = tmp_path / folder
        place.mkdir()
        for name in names:
            (place / name).parent.mkdir(exist_ok=True)
            if name.endswith(".json"):
                config = json.loads((checkpoint / "model_config.json").read_text())
                # By which the tests see which of them was taken.
                config["sample_rate"] = 8000 + len(name)
                (place / name).write_text(json.dumps(config))
            else:
                (place / name).write_bytes(b"")
        return place

    return publish


@pytest.fixture
def chosen(checkpoint) -> Callable[..., Selection]:
    def choose(place: Path, config: str | None = None, weights: str | None = None, base: Path | None = None) -> Selection:
        return select(place, checkpoint / "t5", config, weights, base, notes.append)

    notes: list[str] = []
    choose.notes = notes  # type: ignore[attr-defined]
    return choose


NAMES = [
    (["base_model_config.json", "jerry_epoch=3-step=300.ckpt"], {}, "jerry_epoch=3-step=300.ckpt", "base_model_config.json"),
    (["kickbass_model_config.json", "kickbass_v1.ckpt", "LICENSE"], {}, "kickbass_v1.ckpt", "kickbass_model_config.json"),
    (["model_config.json", "small.safetensors"], {}, "small.safetensors", "model_config.json"),
    (["model_config.json", "small.safetensors", "small.ckpt"], {}, "small.safetensors", "model_config.json"),
    (["model_config.json", "model.ckpt", "other.ckpt"], {}, "model.ckpt", "model_config.json"),
    (["model_config.json", "model.ckpt", "model.safetensors"], {}, "model.safetensors", "model_config.json"),
    (["model_config.json", "a.ckpt", "adapter_model.safetensors"], {}, "a.ckpt", "model_config.json"),
    (["model_config.json", "config.json", "dataset_config.json", "a.pt"], {}, "a.pt", "model_config.json"),
    (
        ["model_config.json", "base_model_config.json", "model.ckpt", "base_model.ckpt"],
        {"weights": "base_model.ckpt"},
        "base_model.ckpt",
        "base_model_config.json",
    ),
    (["model_config.json", "base_model_config.json", "model.ckpt", "base_model.ckpt"], {}, "model.ckpt", "model_config.json"),
    (
        ["acid_v1_base_model_config.json", "acid_v4_e2_s1_model_config.json", "acid_v1_e1_s2.ckpt", "acid_v4_e2_s1.ckpt"],
        {"weights": "acid_v1_e1_s2.ckpt"},
        "acid_v1_e1_s2.ckpt",
        "acid_v1_base_model_config.json",
    ),
    (
        ["acid_v1_base_model_config.json", "acid_v4_e2_s1_model_config.json", "acid_v1_e1_s2.ckpt", "acid_v4_e2_s1.ckpt"],
        {"weights": "acid_v4_e2_s1.ckpt"},
        "acid_v4_e2_s1.ckpt",
        "acid_v4_e2_s1_model_config.json",
    ),
    (["acid_v2_config.json", "model_config.json", "acid_v2_e1.ckpt"], {}, "acid_v2_e1.ckpt", "acid_v2_config.json"),
    (["acid_v1_model_config.json", "base_model_config.json", "am.ckpt"], {}, "am.ckpt", "base_model_config.json"),
    (["a_model_config.json", "b.ckpt"], {"config": "a_model_config.json"}, "b.ckpt", "a_model_config.json"),
    (["inner/some.json", "b.ckpt"], {"config": "inner/some.json"}, "b.ckpt", "inner/some.json"),
]


@pytest.mark.parametrize(("names", "options", "weights", "config"), NAMES)
def test_names_of_published_files(publish, chosen, names, options, weights, config):
    selection = chosen(publish(*names), **options)
    assert selection.files.weights.path == weights
    assert selection.config.sample_rate == 8000 + len(config)


def test_what_was_found_is_told(publish, chosen):
    chosen(publish("base_model_config.json", "bass.ckpt"))
    assert [note.partition(" of ")[0] for note in chosen.notes] == [
        "configuration: base_model_config.json",
        "weights: bass.ckpt",
    ]


@pytest.mark.parametrize(
    ("names", "options", "match"),
    [
        (["model_config.json", "a.ckpt", "b.ckpt"], {}, r"several files of weights: a\.ckpt, b\.ckpt; .* --weights NAME"),
        (["a_model_config.json", "b_model_config.json", "a.ckpt", "b.ckpt"], {}, r"several files of weights: a\.ckpt, b\.ckpt"),
        (["b_model_config.json", "c_model_config.json", "a.ckpt"], {}, r"several configurations: b_.*, c_.*; .* --config"),
        (
            ["a_model_config.json", "a_base_model_config.json", "a.ckpt"],
            {},
            r"several configurations: a_base_model_config\.json, a_model_config\.json; say which",
        ),
        (["a.ckpt"], {}, r"lacks model_config\.json; it holds a\.ckpt; name another file with --config"),
        (["dataset_config.json", "config.json", "a.ckpt"], {}, r"lacks model_config\.json; it holds"),
        (["model_config.json"], {}, r"lacks model\.safetensors; it holds model_config\.json; is this the right model"),
        (["model_config.json", "a.ckpt"], {"weights": "b.ckpt"}, r"lacks b\.ckpt; .*--weights NAME"),
        (["model_config.json", "a.ckpt"], {"config": "b.json"}, r"lacks b\.json; .*--config FILE"),
        (["model_config.json", "a.npz"], {"weights": "a.npz"}, r"a\.npz is no file of weights; expected \.safetensors"),
        (["adapter_config.json", "adapter_model.safetensors"], {}, "it is an adapter .*--lora"),
    ],
)  # fmt: skip
def test_names_that_leave_a_doubt(publish, chosen, names, options, match):
    with pytest.raises(CheckpointError, match=match) as caught:
        chosen(publish(*names), **options)
    assert "\n" not in str(caught.value)


def test_a_configuration_from_elsewhere(publish, chosen, checkpoint):
    """By its path, and with a message that calls it by its name."""
    place = publish("bass.ckpt")
    other = publish("conf.json", folder="other") / "conf.json"
    assert chosen(place, config=str(other)).config.sample_rate == 8000 + len("conf.json")
    text = other.read_text().replace('"rf_denoiser"', '"v"')
    other.write_text(text)
    with pytest.raises(UnsupportedModelError, match=r"^conf\.json: model\.diffusion\.diffusion_objective: found 'v'"):
        chosen(place, config=str(other))


def test_a_file_is_a_model(publish, chosen):
    """Of several in a folder; the bundle is called after it."""
    place = publish("a_model_config.json", "b_model_config.json", "a_1.ckpt", "b_1.ckpt")
    selection = chosen(place / "b_1.ckpt")
    assert (selection.source.name, selection.source.origin, selection.files.weights.path) == ("b_1", "published", "b_1.ckpt")
    assert selection.config.sample_rate == 8000 + len("b_model_config.json")
    with pytest.raises(CheckpointError, match="several files of weights"):
        chosen(place / "a_model_config.json")


def test_a_base_gives_the_configuration_as_well(publish, chosen, checkpoint):
    selection = chosen(publish("bass.ckpt"), base=checkpoint)
    assert selection.config.sample_rate == 44100
    assert selection.base is not None
    assert selection.base.files.weights.path == "model.safetensors"
    assert "because" in chosen.notes[0]
    assert "has none" in chosen.notes[0]
    small = publish("model_config.json", "base_model_config.json", "model.ckpt", "base_model.ckpt", folder="small")
    with pytest.raises(CheckpointError, match=r"no configuration, and .*small holds several: base_.*, model_.*--config FILE"):
        chosen(publish("bass.ckpt", folder="again"), base=small)
    selection = chosen(small.parent / "again", base=small / "base_model.ckpt")
    assert selection.config.sample_rate == 8000 + len("base_model_config.json")
    with pytest.raises(CheckpointError, match=r"base lacks model\.safetensors"):
        chosen(publish("model_config.json", "a.ckpt", folder="other"), base=publish("model_config.json", folder="base"))


def test_bases_that_are_files(publish, chosen, checkpoint):
    place = shutil.copytree(checkpoint, publish("bass.ckpt", "model_config.json") / "base")
    selection = chosen(place.parent, base=place / "model.safetensors")
    assert selection.base is not None
    assert selection.base.source.origin == "base"


def test_the_command_hands_its_options_on(command, checkpoint, plain, tmp_path):
    """A file, its configuration from elsewhere, a base, and weights that are not averaged."""
    torch.save({"state_dict": _put(EMA, _below("model.", plain))}, tmp_path / "bass.ckpt")
    shutil.copyfile(checkpoint / "model_config.json", tmp_path / "conf.json")
    options = ["--t5", checkpoint / "t5", "--config", "conf.json", "--base", checkpoint, "--no-ema"]
    done = command("convert", "bass.ckpt", "-o", "out", *options)
    assert done.returncode == 1
    assert done.stdout == ""
    note, error = done.stderr.splitlines()
    assert note == "note: weights: bass.ckpt of ."
    assert error == (
        "error: bass.ckpt cannot be used: it holds the transformer as averaged weights (EMA) alone; "
        "leave out --no-ema (ema=True) to take them"
    )
