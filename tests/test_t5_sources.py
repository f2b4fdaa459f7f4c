"""T5 encoders as they are published: their files, their tokenizers, their configurations, and which model they belong to."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sao_onnx.errors import SaoOnnxWarning
from sao_onnx_convert import CheckpointError, CheckpointNotFoundError, UnsupportedModelError, convert
from sao_onnx_convert.family.stable_audio_open.text_encoder import load_t5, t5_width
from sao_onnx_convert.source.config import parse_config
from sao_onnx_convert.source.files import WeightFiles
from sao_onnx_convert.source.source import Folder
from sao_onnx_convert.source.t5_config import T5Config, check_text_encoder, read_t5_config
from sao_onnx_convert.source.t5_files import T5Files, choose_t5
from sao_onnx_convert.source.t5_names import SIZES, repository
from tests.conftest import LARGER, ROOT

TEXTS = [
    "a warm pad, slow",
    "",
    "120 BPM  techno loop ",
    "ünïcödé ① ½",
    "<extra_id_3> and </s> <pad>",
    "rain\n\n\twind",
    "長い音",
]


@pytest.fixture
def t5(checkpoint, tmp_path) -> Path:
    """The miniature's T5, to be rearranged."""
    return Path(shutil.copytree(checkpoint / "t5", tmp_path / "t5"))


@pytest.fixture(scope="module")
def embeddings(checkpoint) -> torch.Tensor:
    return _embeddings(checkpoint / "t5")


def _embeddings(folder: Path) -> torch.Tensor:
    text = load_t5(folder)
    assert text.pad_id == 0
    assert t5_width(folder) == text.width == 32
    with torch.no_grad():
        return text.encoder(input_ids=torch.tensor([text.tokenizer.encode("dark rain, 8bit").ids])).last_hidden_state


def _shard(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places: dict[str, str] = {}
    for index, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2]), start=1):
        file = f"model-0000{index}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, folder / file)
        places |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def _apart(folder: Path) -> None:
    """As a pipeline of several models holds it."""
    for name in ("text_encoder", "tokenizer"):
        (folder / name).mkdir()
    for path in list(folder.glob("*.*")):
        path.rename(folder / ("tokenizer" if "tokenizer" in path.name else "text_encoder") / path.name)


def _apart_in_shards(folder: Path) -> None:
    _apart(folder)
    _shard(folder / "text_encoder")


def _with_its_decoder(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"decoder.final_layer_norm.weight": torch.ones(32)}, folder / "model.safetensors")


@pytest.mark.parametrize("arrange", [_shard, _apart, _apart_in_shards, _with_its_decoder])
def test_arrangements_of_the_same_files(t5, embeddings, arrange):
    arrange(t5)
    assert torch.equal(_embeddings(t5), embeddings)


def test_the_encoder_beside_its_tokenizer(t5, embeddings):
    """The folder of the encoder alone may be named; its tokenizer lies next to it."""
    _apart(t5)
    assert torch.equal(_embeddings(t5 / "text_encoder"), embeddings)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_precisions(t5, checkpoint, dtype):
    """The reference keeps T5 in half precision, so weights that were stored so are exact."""
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(t5 / "model.safetensors").items()}
    save_file(tensors, t5 / "model.safetensors")
    state = load_t5(t5).encoder.state_dict()
    for name, tensor in tensors.items():
        assert state[name].dtype == torch.float32
        assert torch.equal(state[name], tensor.half().float())


def test_shards_are_read_without_a_progress_bar(t5, capfd):
    _shard(t5)
    load_t5(t5)
    assert capfd.readouterr() == ("", "")


def test_a_missing_shard(t5):
    _shard(t5)
    (t5 / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks model-00001-of-00002\.safetensors"):
        load_t5(t5)


def _choose(folder: Path, names: list[str]) -> T5Files:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return choose_t5(Folder(folder))


def test_which_files_are_wanted(tmp_path):
    flat = ["README.md", "config.json", "model.safetensors", "pytorch_model.bin", "spiece.model", "tokenizer.json"]
    assert _choose(tmp_path / "flat", flat).all == ("config.json", "tokenizer.json", "model.safetensors")
    flat.remove("tokenizer.json")
    weights = WeightFiles("model.safetensors", ("model.safetensors",))
    assert _choose(tmp_path / "pieces", [*flat, "tokenizer_config.json"]) == T5Files(
        "config.json", weights, "spiece.model", ("tokenizer_config.json",)
    )
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    apart = ["config.json", *(f"text_encoder/{name}" for name in ("config.json", "model.safetensors.index.json", *shards))]
    apart += ["tokenizer/added_tokens.json", "tokenizer/spiece.model", "transformer/model.safetensors", "vae/config.json"]
    found = _choose(tmp_path / "apart", apart)
    assert found.config == "text_encoder/config.json"
    assert found.weights.all == ("text_encoder/model.safetensors.index.json", *(f"text_encoder/{shard}" for shard in shards))
    assert (found.tokenizer, found.settings) == ("tokenizer/spiece.model", ("tokenizer/added_tokens.json",))


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ([], r"lacks config\.json and model\.safetensors and tokenizer\.json \(or spiece\.model\); it is empty"),
        (
            ["config.json", "pytorch_model.bin", "spiece.model"],
            r"lacks model\.safetensors; it holds .*; pytorch_model\.bin is a pickled",
        ),
        (
            ["config.json", "model.fp16.safetensors", "tokenizer.json"],
            r"lacks model\.safetensors; it holds model\.fp16\.safetensors.* must have the name model\.safetensors",
        ),
        (
            ["config.json", "model.safetensors"],
            r"lacks tokenizer\.json \(or spiece\.model\); it holds model\.safetensors",
        ),
        (
            ["config.json", "model-00001-of-00001.safetensors", "tokenizer.json"],
            r"lacks model\.safetensors\.index\.json; it holds .*, but not their index",
        ),
        (["text_encoder/config.json", "tokenizer/tokenizer.json"], r"lacks text_encoder/model\.safetensors"),
        (["model.safetensors", "tokenizer.json"], r"lacks config\.json;"),
    ],
)
def test_what_is_missing(tmp_path, names, match):
    with pytest.raises(CheckpointError, match=match):
        _choose(tmp_path, names)


def _write_pieces(path: Path, tokenizer: dict[str, Any]) -> None:
    """A SentencePiece model with the vocabulary of a tokenizer.json."""
    from transformers.convert_slow_tokenizer import import_protobuf

    model = import_protobuf().ModelProto()
    special = {token["content"] for token in tokenizer["added_tokens"]}
    for piece, score in tokenizer["model"]["vocab"]:
        model.pieces.add(piece=piece, score=score, type=2 if piece == "<unk>" else 3 if piece in special else 1)
    model.trainer_spec.unk_id = tokenizer["model"]["unk_id"]
    model.trainer_spec.model_type = 1
    path.write_bytes(model.SerializeToString())


def test_a_tokenizer_from_its_pieces(t5):
    before = load_t5(t5).tokenizer
    _write_pieces(t5 / "spiece.model", json.loads((t5 / "tokenizer.json").read_text()))
    (t5 / "tokenizer.json").unlink()
    (t5 / "tokenizer_config.json").write_text(json.dumps({"extra_ids": 4, "pad_token": "<pad>"}))
    text = load_t5(t5)
    assert text.pad_id == 0
    assert text.tokenizer.token_to_id("<extra_id_0>") == before.get_vocab_size() + 3
    for prompt in ("a warm pad, slow", "", "120 BPM techno loop", "drums and bass", "~ zebra"):
        assert text.tokenizer.encode(prompt).ids == before.encode(prompt).ids


@pytest.mark.skipif(not LARGER.is_dir(), reason="the larger golden data is not beside this checkout")
def test_the_pieces_of_the_reference(tmp_path):
    """The same ids as the tokenizer.json that transformers made of the same file."""
    folder = Path(shutil.copytree(LARGER / "t5-base", tmp_path / "t5"))
    folder.chmod(0o755)
    before = load_t5(folder)
    (folder / "tokenizer.json").unlink()
    after = load_t5(folder)
    assert after.pad_id == before.pad_id
    for prompt in TEXTS:
        assert after.tokenizer.encode(prompt).ids == before.tokenizer.encode(prompt).ids, prompt


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>", "web page"),
        (b"\xff" * 100, "cannot be read as a SentencePiece model"),
    ],
)
@pytest.mark.parametrize("name", ["spiece.model", "tokenizer.json"])
def test_tokenizers_that_are_something_else(t5, name, content, match):
    (t5 / "tokenizer.json").unlink()
    (t5 / name).write_bytes(content)
    with pytest.raises(
        CheckpointError, match=match if name == "spiece.model" else match.replace(" as a SentencePiece model", "")
    ):
        load_t5(t5)


def test_weights_that_are_something_else(t5):
    (t5 / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(CheckpointError, match=r"t5/model\.safetensors cannot be read as safetensors: it is a Git LFS pointer"):
        load_t5(t5)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_weights_in_eight_bits(t5, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(t5 / "model.safetensors").items()}
    save_file(tensors, t5 / "model.safetensors")
    with pytest.raises(CheckpointError, match="expected single or half precision or bfloat16"):
        load_t5(t5)


def test_a_tokenizer_of_another_encoder(t5):
    config = json.loads((t5 / "config.json").read_text())
    (t5 / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    with pytest.raises(CheckpointError, match=r"the tokenizer has tokens up to .*, the encoder only 100"):
        load_t5(t5)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"model_type": "umt5"}, UnsupportedModelError, "model_type: found 'umt5', supported: 't5'"),
        ({"model_type": "t5gemma"}, UnsupportedModelError, "model_type: found 't5gemma', supported: 't5'"),
        ({"model_type": None}, UnsupportedModelError, "model_type: found None"),
        ({"d_model": "32"}, CheckpointError, "d_model: found '32', expected a whole number"),
        ({"d_model": 0}, CheckpointError, "d_model: found 0, sizes must be positive"),
        ({"num_layers": 10**9}, CheckpointError, "num_layers: found 1000000000"),
        ({"d_kv": [16]}, CheckpointError, "d_kv: found .16., expected a whole number"),
        ({"feed_forward_proj": 3}, CheckpointError, "feed_forward_proj: found 3"),
        ({"layer_norm_epsilon": float("nan")}, CheckpointError, "layer_norm_epsilon: found nan"),
        ({"layer_norm_epsilon": 1e300}, CheckpointError, "layer_norm_epsilon: found 1e.300, expected one between 0 and 1"),
        ({"relative_attention_max_distance": 0}, CheckpointError, "relative_attention_max_distance: found 0"),
        ({"relative_attention_num_buckets": 1}, CheckpointError, "1 buckets; expected 4 or more"),
        ({"quantization_config": {"load_in_8bit": True}}, UnsupportedModelError, "the encoder is quantized"),
    ],
)
def test_configurations_of_t5(t5, change, error, match):
    path = t5 / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(error, match=match):
        read_t5_config(path)
    with pytest.raises(error, match=match):
        load_t5(t5)


@pytest.mark.parametrize(
    "change",
    [
        {"return_dict": False},
        {"torchscript": True, "output_attentions": True, "output_hidden_states": True},
        {"dtype": "bfloat16", "gradient_checkpointing": True, "dropout_rate": "none"},
        {"_attn_implementation": "flash_attention_2", "num_labels": "4"},
    ],
)
def test_settings_of_t5_that_have_no_effect(t5, embeddings, recwarn, change):
    path = t5 / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert torch.equal(_embeddings(t5), embeddings)
    assert not recwarn.list


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_files_with_a_byte_order_mark(checkpoint, t5, embeddings, tmp_path, name):
    path = t5 / name
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert torch.equal(_embeddings(t5), embeddings)

    def watch(progress):
        if progress.step.startswith("exporting"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, t5, tmp_path / "bundle", progress=watch)


def _asking(model_config: dict[str, Any], name: str):
    model_config["model"]["conditioning"]["configs"][0]["config"]["t5_model_name"] = name
    return parse_config(model_config)


def _published(name: str, **others) -> T5Config:
    sizes = dict(vars(SIZES[name]))
    return T5Config(feed_forward_proj="gated-gelu" if sizes.pop("gated") else "relu", **sizes, **others)


@pytest.mark.parametrize(
    ("asked", "found", "place"),
    [
        ("t5-base", "t5-base", "google-t5/t5-base"),
        ("t5-base", "t5-base", "text"),
        ("google-t5/t5-base", "t5-base", "/data/T5-Base/"),
        ("google/flan-t5-large", "flan-t5-large", "google/flan-t5-large"),
        ("/data/encoders/t5-base", "t5-base", "google-t5/t5-base"),
        ("me/my-t5", "t5-base", "me/my-t5"),
    ],
)
def test_the_right_t5(model_config, asked, found, place):
    assert check_text_encoder(_asking(model_config, asked), _published(found), place) is None


@pytest.mark.parametrize(
    ("asked", "found", "match"),
    [
        ("t5-base", "t5-large", "trained with the text encoder 't5-base', and x is of the sizes of 't5-large'.*--t5"),
        ("t5-base", "flan-t5-base", "is of the sizes of 'flan-t5-base'"),
        ("google/flan-t5-base", "t5-base", "is of the sizes of 't5-base'"),
        ("t5-large", "t5-3b", "is of the sizes of 't5-3b'"),
    ],
)
def test_the_wrong_t5(model_config, asked, found, match):
    with pytest.raises(UnsupportedModelError, match=match):
        check_text_encoder(_asking(model_config, asked), _published(found), "x")


def test_a_t5_of_unpublished_sizes(model_config):
    config = _asking(model_config, "t5-base")
    with pytest.raises(UnsupportedModelError, match=r"is another T5 .num_layers 6 instead of 12"):
        check_text_encoder(config, T5Config(d_model=768, d_ff=3072, d_kv=64, num_layers=6, num_heads=12), "x")
    with pytest.raises(UnsupportedModelError, match="gated True instead of False"):
        check_text_encoder(config, T5Config(d_model=32, feed_forward_proj="gated-gelu"), "x")


@pytest.mark.parametrize(
    ("asked", "t5", "place", "match"),
    [
        (
            "google/flan-t5-base",
            _published("flan-t5-base"),
            "google/t5-v1_1-base",
            "'google/flan-t5-base', and .* is called 't5-v1_1-base'",
        ),
        (
            "t5-small",
            T5Config(d_model=32, _name_or_path="google-t5/t5-base"),
            "text",
            "'t5-small', and text is called 't5-base'",
        ),
        ("/data/text_encoder", _published("t5-base"), "google-t5/t5-base", "'/data/text_encoder', which is not known here"),
        ("me/my-t5", _published("t5-base"), "google-t5/t5-base", "'me/my-t5', which is not known here"),
    ],
)
def test_where_only_the_name_differs(model_config, asked, t5, place, match):
    doubt = check_text_encoder(_asking(model_config, asked), t5, place)
    assert doubt is not None
    assert re.search(match, doubt)


def test_the_sizes_are_those_of_the_real_encoder():
    """What the project knows of t5-base from its own configuration of the real size."""

    config = json.loads((ROOT / "models" / "stable-audio-open-small" / "t5_config.json").read_text())
    path_sizes = {name: config[name] for name in ("d_model", "d_ff", "d_kv", "num_layers", "num_heads")}
    assert path_sizes | {"gated": False} == vars(SIZES["t5-base"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("t5-base", "google-t5/t5-base"),
        ("google-t5/t5-base", "google-t5/t5-base"),
        ("T5-Base", "google-t5/t5-base"),
        ("/data/models/t5-base", "google-t5/t5-base"),
        ("C:\\models\\t5-small", "google-t5/t5-small"),
        ("google/flan-t5-base", "google/flan-t5-base"),
        ("google/t5-v1_1-xl", "google/t5-v1_1-xl"),
        ("me/my-t5", "me/my-t5"),
        ("/data/text_encoder", None),
        ("./t5", None),
        ("my-t5", None),
    ],
)
def test_the_repository_of_a_name(name, expected):
    assert repository(name) == expected


def test_the_configuration_supplies_the_t5(checkpoint, monkeypatch, tmp_path):
    """Without --t5 the named one is fetched."""
    module = sys.modules["sao_onnx_convert.source.selection"]
    locate, asked = module.locate, []

    def fetch(place, *arguments):
        asked.append(str(place))
        if str(place) == "google-t5/t5-base":
            raise CheckpointNotFoundError("no network here")
        return locate(place, *arguments)

    monkeypatch.setattr(module, "locate", fetch)
    with pytest.raises(CheckpointNotFoundError, match="no network here"):
        convert(checkpoint, None, tmp_path / "bundle")
    assert asked[-1] == "google-t5/t5-base"


def test_a_name_that_is_no_repository(checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))
    config = json.loads((folder / "model_config.json").read_text())
    config["model"]["conditioning"]["configs"][0]["config"]["t5_model_name"] = "/data/text_encoder"
    (folder / "model_config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointNotFoundError, match=r"names the text encoder '/data/text_encoder', which is not a repository.*--t5"
    ):
        convert(folder, None, tmp_path / "bundle")


def test_doubts_and_notes_reach_the_caller(checkpoint, tmp_path):
    """The unread fields as one note, the other name as a warning; the conversion goes on (here to a file that is missing)."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))
    config = json.loads((folder / "model_config.json").read_text()) | {"_comment": "ours"}
    config["model"]["conditioning"]["configs"][0]["config"]["t5_model_name"] = "me/my-t5"
    (folder / "model_config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")
    notes: list[str] = []
    with (
        pytest.warns(SaoOnnxWarning, match="trained with the text encoder 'me/my-t5'"),
        pytest.raises(CheckpointError, match="it is empty"),
    ):
        convert(folder, folder / "t5", tmp_path / "bundle", note=notes.append)
    assert notes == ["model_config.json: fields that have no effect and are not read: _comment"]
