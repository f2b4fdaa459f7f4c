from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pytest

import sao_onnx
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.errors import BundleError, BundleNotFoundError, RequestError


def test_verifies(miniature):
    opened = open_bundle(miniature)
    assert list(opened.verify()) == [file.path for file in opened.manifest.files]


def test_no_folder(tmp_path):
    with pytest.raises(BundleNotFoundError, match=r"nothing is not a folder.*sao-onnx convert"):
        sao_onnx.load(tmp_path / "nothing")
    assert issubclass(BundleNotFoundError, FileNotFoundError)


def test_no_manifest(tmp_path):
    with pytest.raises(BundleNotFoundError, match=r"holds no manifest\.json"):
        sao_onnx.load(tmp_path)


def test_manifest_that_is_not_text(bundle):
    (bundle / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match="cannot be read"):
        open_bundle(bundle)


def test_missing_file(bundle):
    (bundle / "fp32" / "dit.onnx.data").unlink()
    with pytest.raises(BundleError, match=r"fp32/dit\.onnx\.data is missing"):
        sao_onnx.load(bundle)


def test_truncated_file(bundle):
    path = bundle / "fp32" / "dit.onnx.data"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BundleError, match=r"fp32/dit\.onnx\.data has \d+ bytes, expected \d+"):
        sao_onnx.load(bundle)


def test_flipped_byte(bundle):
    path = bundle / "fp32" / "decoder_1.onnx.data"
    data = bytearray(path.read_bytes())
    data[1234] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"fp32/decoder_1\.onnx\.data is damaged"):
        list(open_bundle(bundle).verify())


def test_files_before_a_damaged_one_are_said_to_be_right(bundle):
    opened = open_bundle(bundle)
    damaged = opened.manifest.files[3]
    path = opened.path(damaged.path)
    path.write_bytes(b"\0" * path.stat().st_size)
    found = opened.verify()
    assert [next(found) for _ in range(3)] == [file.path for file in opened.manifest.files[:3]]
    with pytest.raises(BundleError, match=damaged.path):
        next(found)


def test_a_folder_in_the_place_of_a_file(bundle):
    (bundle / "tokenizer.json").unlink()
    (bundle / "tokenizer.json").mkdir()
    with pytest.raises(BundleError, match=r"tokenizer\.json is missing"):
        open_bundle(bundle)


def test_a_bundle_in_the_users_home(bundle, monkeypatch):
    monkeypatch.setenv("HOME", str(bundle.parent))
    monkeypatch.setenv("USERPROFILE", str(bundle.parent))
    assert open_bundle(f"~/{bundle.name}").folder == bundle


def test_a_graph_that_the_bundle_lacks(miniature):
    manifest = open_bundle(miniature).manifest
    less = replace(
        manifest, graphs=tuple(graph for graph in manifest.graphs if (graph.role, graph.precision) != ("dit", "fp32"))
    )
    assert less.graph("dit", "int8").role == "dit"
    with pytest.raises(BundleError, match="holds no dit in fp32; it holds int8"):
        less.graph("dit", "fp32")


def test_link_out_of_the_bundle(bundle, tmp_path):
    path = bundle / "tokenizer.json"
    shutil.move(path, tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BundleError, match="a link that leaves the bundle"):
        open_bundle(bundle)


def test_the_bundle_itself_may_be_a_link(miniature, tmp_path):
    (tmp_path / "link").symlink_to(miniature)
    assert sao_onnx.load(tmp_path / "link").generate("kick", seconds=0.1, steps=1).samples.size


def _generate(bundle, **options):
    return sao_onnx.load(bundle, precision="fp32", threads=2, **options).generate("kick", seconds=0.1, steps=1, seed=1)


def test_graph_that_is_no_graph(bundle):
    path = bundle / "fp32" / "dit.onnx"
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(BundleError, match=r"cannot load .*dit\.onnx.*sao-onnx verify"):
        _generate(bundle, verify=False)


def test_graph_with_another_signature(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    dit = next(graph for graph in manifest["graphs"] if graph["role"] == "dit")
    dit["outputs"][0]["name"] = "noise"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="the manifest promises"):
        _generate(bundle)


FILES = {
    "conditioner": ("tokenizer.json", "fp32/text_encoder.onnx", "fp32/number_conditioner.onnx.data"),
    "denoiser": ("fp32/context.onnx.data", "fp32/dit.onnx", "fp32/dit.onnx.data"),
    "decoder": ("fp32/decoder_1.onnx", "fp32/decoder_2.onnx.data", "fp32/decoder_3.onnx.data"),
}
"""Files of every kind that a clip is made with."""


def _flip(path, position=-3):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", [name for names in FILES.values() for name in names])
def test_a_damaged_file_makes_no_other_sound(bundle, name):
    _flip(bundle / name)
    with pytest.raises(BundleError, match=rf"{name} is damaged: its SHA-256 is not the manifest's; copy or convert") as caught:
        _generate(bundle)
    assert "\n" not in str(caught.value)


def test_files_that_nothing_opens_are_not_read(bundle):
    for name in ("fp32/encoder.onnx.data", "int8/dit.onnx.data", "LICENSE"):
        _flip(bundle / name)
    assert _generate(bundle).samples.size


def test_digests_need_not_be_compared(bundle, monkeypatch):
    right = _generate(bundle).samples
    _flip(bundle / "fp32" / "dit.onnx.data", 1234)
    assert _generate(bundle, verify=False).samples.shape == right.shape
    monkeypatch.setenv("SAO_ONNX_VERIFY", "0")
    assert _generate(bundle).samples.shape == right.shape
    with pytest.raises(BundleError, match="damaged"):
        _generate(bundle, verify=True)
    monkeypatch.setenv("SAO_ONNX_VERIFY", "1")
    with pytest.raises(BundleError, match="damaged"):
        _generate(bundle)


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", "fp32/dit.onnx", "fp32/dit.onnx.data"])
@pytest.mark.parametrize("kind", ["fifo", "zero", "full", "folder", "circle", "gone"])
def test_no_ordinary_file(bundle, name, kind):
    path = bundle / name
    path.unlink()
    if kind == "fifo":
        if not hasattr(os, "mkfifo"):
            pytest.skip("there are no FIFOs here")
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "gone":
        path.symlink_to({"zero": "/dev/zero", "full": "/dev/full", "circle": path.name}[kind])
    with pytest.raises(BundleError) as caught:
        _generate(bundle)
    assert str(path.name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_precision(miniature):
    with pytest.raises(RequestError, match=r"holds int8, fp32, not 'int3'; choose int8 or fp32"):
        sao_onnx.load(miniature, precision="int3")  # type: ignore[arg-type]
    less = replace(open_bundle(miniature), manifest=replace(open_bundle(miniature).manifest, graphs=()))
    with pytest.raises(RequestError, match="convert it again with --precision int8"):
        replace(less, manifest=less.manifest).precision("int8")
