from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

import sao_onnx
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.errors import BundleError, BundleNotFoundError


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


def test_graph_that_is_no_graph(bundle):
    path = bundle / "fp32" / "dit.onnx"
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(BundleError, match=r"cannot load .*dit\.onnx"):
        sao_onnx.load(bundle, precision="fp32").generate("kick")


def test_graph_with_another_signature(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    dit = next(graph for graph in manifest["graphs"] if graph["role"] == "dit")
    dit["inputs"][0]["name"] = "noise"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="the manifest promises"):
        sao_onnx.load(bundle, precision="fp32").generate("kick")


def test_damaged_tokenizer(bundle):
    path = bundle / "tokenizer.json"
    path.write_text("{" + " " * (path.stat().st_size - 1))
    with pytest.raises(BundleError, match="cannot be read as a tokenizer"):
        sao_onnx.load(bundle, precision="fp32").generate("kick")


def test_unknown_precision(miniature):
    with pytest.raises(BundleError, match=r"holds int8, fp32, not 'int3'"):
        sao_onnx.load(miniature, precision="int3")
