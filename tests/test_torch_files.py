"""Files of torch.save from anywhere: what is read, what is refused, and that nothing in them is ever run."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import os
import pathlib
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sao_onnx_convert import CheckpointError
from sao_onnx_convert.source import pickles
from sao_onnx_convert.source.pickles import INERT, TENSORS, load_pickled
from sao_onnx_convert.source.stored import open_stored

WEIGHT = torch.arange(6.0).reshape(2, 3)
STATE = {"state_dict": {"a.weight": WEIGHT}}

pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < pickles.SAFE_TORCH, reason="this PyTorch is too old for such files"
)


def _refused(path: Path, match: str) -> str:
    with pytest.raises(CheckpointError, match=match) as caught, open_stored(path):
        pass
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert len(message) < 700
    return message


def _read(path: Path) -> dict[str, torch.Tensor]:
    with open_stored(path) as found:
        return {name: found.read(name) for name in found.shapes}


def _archive(path: Path, instructions: bytes, records: dict[str, bytes] | None = None, how: int = zipfile.ZIP_STORED) -> Path:
    """A file as torch.save writes it, of given instructions."""
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("archive/data.pkl", instructions)
        for name, content in {"version": b"3\n", "byteorder": b"little", **(records or {})}.items():
            archive.writestr(f"archive/{name}", content)
    return path


def _tensor(count: bytes, shape: bytes, key: bytes = b"0") -> bytes:
    """Instructions for `{"a": tensor}`, of a storage with so many numbers. Arguments are instructions, too."""
    identity = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0" + key + b"X\x03\0\0\0cpu" + count + b"tQ"
    ordered = b"ccollections\nOrderedDict\n)R"
    return (
        b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n("
        + identity
        + b"K\0"
        + shape
        + b"K\x01\x85\x89"
        + ordered
        + b"tRs."
    )


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin"])
@pytest.mark.parametrize("content", [STATE, STATE["state_dict"], {"state_dict": {"a": {"weight": WEIGHT}}}])
def test_tensors_of_a_state_dict(tmp_path, suffix, content):
    """As people write it; the next test has one as PyTorch makes it."""
    path = tmp_path / f"model{suffix}"
    torch.save(content, path)
    ((name, tensor),) = _read(path).items()
    assert name == "a.weight"
    assert torch.equal(tensor, WEIGHT)


def test_tensors_of_a_module(tmp_path):
    module = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 2)})
    torch.save({"state_dict": module.state_dict()}, tmp_path / "a.ckpt")
    assert {name: tensor.tolist() for name, tensor in _read(tmp_path / "a.ckpt").items()} == {
        name: tensor.tolist() for name, tensor in module.state_dict().items()
    }


def test_what_a_state_dict_may_hold_besides(tmp_path):
    """Parameters, views, shared and transposed tensors, all kinds of numbers, empty ones, levels, and things without names."""
    whole = torch.arange(12.0)
    state: dict[Any, Any] = {
        "parameter": torch.nn.Parameter(WEIGHT),
        "view": whole[2:8].reshape(2, 3),
        "shared": whole,
        "transposed": WEIGHT.T,
        "half": WEIGHT.half(),
        "bfloat": WEIGHT.bfloat16(),
        "double": WEIGHT.double(),
        "step": torch.tensor(7),
        "float8": WEIGHT.to(torch.float8_e4m3fn),
        "empty": torch.zeros(0, 3),
        "inner": {"weight": WEIGHT + 1},
        3: WEIGHT,
        "list": [WEIGHT],
        "text": "no tensor",
    }
    state["itself"] = state
    torch.save(state, tmp_path / "a.ckpt")
    with open_stored(tmp_path / "a.ckpt") as found:
        kinds = {name: found.dtypes[name] for name in ("half", "bfloat", "double", "view", "step", "float8")}
        assert kinds == {
            "half": "F16", "bfloat": "BF16", "double": "F64", "view": "F32", "step": "int64", "float8": "float8_e4m3fn"
        }  # fmt: skip
        assert found.shapes["transposed"] == (3, 2)
        assert found.shapes["step"] == ()
        for name, expected in (
            ("parameter", WEIGHT),
            ("view", whole[2:8].reshape(2, 3)),
            ("shared", whole),
            ("transposed", WEIGHT.T),
            ("half", WEIGHT),
            ("inner.weight", WEIGHT + 1),
        ):
            tensor = found.read(name)
            assert torch.equal(tensor, expected)
            assert tensor.is_contiguous()
            assert not tensor.requires_grad
        assert found.shapes.keys() == state.keys() - {3, "list", "text", "itself", "inner"} | {"inner.weight"}


def test_what_lightning_and_its_users_leave_beside_the_weights(tmp_path):
    """Nothing of it is made, neither the classes nor what they would do; and PyTorch's own list is as it was."""
    path = tmp_path / "a.ckpt"
    best = np.float64(0.5)
    snapshot = {
        "epoch": 3,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": collections.OrderedDict(STATE["state_dict"]),
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": best, "dirpath": pathlib.PurePosixPath("/a")}},
        "optimizer_states": [
            {"state": {0: {"step": torch.tensor(2.0), "exp_avg": WEIGHT}}, "param_groups": [{"betas": (0, 1)}]}
        ],
        "lr_schedulers": [{"base_lrs": [best], "lr_lambdas": [None]}],
        "hyper_parameters": argparse.Namespace(lr=1e-4, path=pathlib.PosixPath("/data"), sizes={1, 2}, raw=b"bytes"),
        "counts": collections.defaultdict(list, {"a": [1]}),
        "took": datetime.timedelta(seconds=4),
        "curve": np.arange(3),
    }
    torch.save(snapshot, path)
    assert torch.equal(_read(path)["a.weight"], WEIGHT)
    before = torch.serialization.get_safe_globals()
    loaded = load_pickled(path)
    assert set(torch.serialization.get_safe_globals()) == set(before)
    assert loaded["epoch"] == 3
    assert loaded["counts"] == {"a": [1]}
    assert type(loaded["counts"]) is dict
    assert type(loaded["hyper_parameters"]).__module__ == pickles.__name__
    assert not vars(loaded["hyper_parameters"])


def test_the_lists_hold_nothing_that_runs():
    """What is on both lists by mistake would be made by PyTorch instead of being replaced."""
    assert not TENSORS & INERT
    modules = {name.split(".")[0] for name in TENSORS | INERT}
    assert not modules & {"os", "posix", "nt", "sys", "subprocess", "importlib", "runpy", "io", "shutil", "socket", "pickle"}
    assert not {"builtins.eval", "builtins.exec", "builtins.getattr", "builtins.__import__"} & (TENSORS | INERT)


class _Calls:
    """Is pickled as a call."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


MARK = "was-run"


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (_Calls(os.system, f"touch {MARK}"), r"(posix|nt)\.system"),
        (_Calls(eval, f"open('{MARK}', 'w')"), r"builtins\.eval"),
        (_Calls(exec, f"open('{MARK}', 'w')"), r"builtins\.exec"),
        (_Calls(getattr, pathlib.Path(MARK), "touch"), r"builtins\.getattr"),
        (_Calls(open, MARK, "w"), r"_?io\.open"),
        (_Calls(torch.load, "other.ckpt"), r"torch\.serialization\.load"),
        (_Calls(torch.hub.load, "a/b", "c"), r"torch\.hub\.load"),
        (_Calls(torch.jit.load, "other.pt"), r"torch\.jit\._serialization\.load"),
        (_Calls(torch._utils._rebuild_wrapper_subclass, torch.Tensor, torch.float32, (1 << 50,), (0,)), "_rebuild_wrapper"),
        (_Calls(torch._utils._rebuild_meta_tensor_no_storage, torch.float32, (1 << 40,), (1,), False), "_rebuild_meta"),
        (_Calls(torch._utils._rebuild_device_tensor_from_numpy, np.zeros(1), torch.float32, "cuda", False), "from_numpy"),
        (_Calls(torch._utils._rebuild_sparse_tensor, torch.sparse_coo, ()), "_rebuild_sparse"),
        (_Calls(torch.Tensor, 1 << 20), r"torch(\._tensor)?\.Tensor"),
        (torch.nn.Linear(1, 1), r"torch\.nn\.modules\.linear\.Linear"),
        (_Calls(torch._utils._rebuild_qtensor, WEIGHT, 0, (2,), (1,), (), False, {}), "_rebuild_qtensor"),
        (WEIGHT.to_sparse(), "sparse"),
    ],
    ids=lambda value: "" if not isinstance(value, str) else value,
)  # fmt: skip
def test_calls_are_refused_by_name_and_never_made(tmp_path, monkeypatch, attack, name):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": WEIGHT, "b": attack}}, "a.ckpt")
    message = _refused(tmp_path / "a.ckpt", rf"is refused: it holds .*{name}")
    assert "safetensors.torch.save_file" in message
    assert os.listdir() == ["a.ckpt"]


@pytest.mark.parametrize(
    ("instructions", "match"),
    [
        (b"\x80\x02c__builtin__\neval\nX\x01\0\0\x001\x85R.", r"holds builtins\.eval"),
        (b"\x80\x02cos\nsystem\nX\x01\0\0\x001\x85R.", r"holds os\.system"),
        (b"\x80\x02csys\nexit\n)R.", r"holds sys\.exit"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", "instruction PROTO 4"),
        (b"\x80\x02\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", "instruction SHORT_BINUNICODE"),
        (b"\x80\x02(S'1'\ni__builtin__\neval\n.", "instruction STRING"),
        (b"\x80\x02\x82\x01.", "instruction EXT1"),
        (b"\x80\x02(cos\nsystem\no.", "instruction OBJ"),
        (b"\x80\x02ccollections\nOrderedDict\n)R}X\x01\0\0\0aK\x01sb.", "holds one ordereddict|holds no tensors"),
        (b"\x80\x02K\x01.", "holds one int, expected a state_dict"),
        (b"\x80\x02].", "holds one list, expected a state_dict"),
        (b"\x80\x02}.", "holds no tensors"),
        (b"\x80\x02", "is damaged"),
        (b"", "is damaged"),
        (b"\x80\x02}X\xff\xff\xff\xffa", "is damaged"),
        (b"\x80\x02h\x07.", "is damaged"),
        (b"\x80\x02R.", "is damaged"),
        (b"\x80\x02b.", "is damaged"),
        (b"\x80\x02K\x01Q.", "is damaged"),
        (b"\x80\x02X\x01\0\0\0a\x85Q.", "is damaged"),
        (b"\x80\x02" + b")" + b"\x85" * 70_000 + b".", "has 70000 tuples"),
        (b"\x80\x02cargparse\nNamespace\nK\x01K\x02s.", "is damaged"),
        (b"\x80\x02cargparse\nNamespace\n)R(K\x01e.", "is damaged"),
        (b"\x80\x02ccollections\nOrderedDict\n)R}X\x0b\0\0\0__class__xxK\x01sb.", "holds"),
    ],
)  # fmt: skip
def test_instructions_from_elsewhere(tmp_path, instructions, match):
    _refused(_archive(tmp_path / "a.ckpt", instructions), match)


def test_a_tensor_of_given_instructions(tmp_path):
    """The instructions of the next tests are those of a good file."""
    path = _archive(tmp_path / "a.ckpt", _tensor(b"K\x02", b"K\x02\x85"), {"data/0": WEIGHT.numpy().tobytes()[4:12]})
    assert _read(path)["a"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("count", "shape"),
    [
        (b"J\xff\xff\xff\x7f", b"K\x02\x85"),
        (b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"K\x02\x85"),
        (b"\x8a\x08" + b"\xff" * 8, b"K\x02\x85"),
        (b"K\x02", b"J\xff\xff\xff\x7f\x85"),
        (b"K\x02", b"\x8a\x08" + b"\xff" * 7 + b"\x7f\x85"),
        (b"K\x02", b"\x8a\x08" + b"\xff" * 8 + b"\x85"),
        (b"K\x02", b"X\x01\0\0\0a\x85"),
    ],
    ids=["storage-beyond-the-file", "storage-beyond-memory", "negative-storage", "tensor-beyond-its-storage",
         "tensor-beyond-memory", "negative-tensor", "shape-of-text"],
)  # fmt: skip
def test_sizes_that_are_not_true(tmp_path, count, shape):
    """Nothing is read beyond the file, and no memory is taken: either an error, or numbers that the file has."""
    path = _archive(tmp_path / "a.ckpt", _tensor(count, shape), {"data/0": b"\0\0\x80\x3f" * 2})
    try:
        assert _read(path)["a"].numel() <= 2
    except CheckpointError as error:
        assert "is damaged" in str(error)  # noqa: PT017


def test_a_tensor_without_its_numbers(tmp_path):
    _refused(_archive(tmp_path / "a.ckpt", _tensor(b"K\x02", b"K\x02\x85", b"7")), "is damaged")


def test_tuples_in_tuples(tmp_path):
    """Sixty tuples, each of the one before, twice: a key whose hash would take for ever."""
    nest = b"\x80\x02}(K\x01\x85q\x00" + b"".join(b"h%c\x86q%c" % (n, n + 1) for n in range(60)) + b"K\x01u."
    assert "hold each other over" in _refused(_archive(tmp_path / "a.ckpt", nest), "is refused")
    # As often as people like, but not inside of each other: what parameter groups share.
    shared = b"\x80\x02}(U\x01aK\x01\x85q\x00" + b"".join(b"U\x02%02dh\x00" % n for n in range(60)) + b"u."
    assert len(load_pickled(_archive(tmp_path / "b.ckpt", shared))) == 61


def test_what_is_refused_is_not_called_damaged(tmp_path):
    torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "a.pt")
    assert "damaged" not in _refused(tmp_path / "a.pt", "is a TorchScript archive")
    assert "damaged" not in _refused(_archive(tmp_path / "b.ckpt", b"\x80\x04N."), "has the instruction PROTO 4")


def test_packed_archives(tmp_path):
    """Of zeros, which unpack to a thousand times their size."""
    content = {"data/0": bytes(1 << 20)}
    path = _archive(tmp_path / "a.ckpt", _tensor(b"K\x02", b"K\x02\x85"), content, zipfile.ZIP_DEFLATED)
    _refused(path, "no archive that torch.save wrote: found packed files")


def test_instructions_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "LARGEST_PICKLE", 1000)
    _refused(
        _archive(tmp_path / "a.ckpt", b"\x80\x02" + b"N0" * 1000 + b"}."), "2004 bytes of instructions, expected at most 1000"
    )


def test_records_that_share_their_bytes(tmp_path):
    """A bomb of the newer kind: many names in the table for the same bytes."""
    path = _archive(tmp_path / "a.ckpt", b"\x80\x02}.", {"data/0": b"a" * 5000})
    with zipfile.ZipFile(path, "a") as archive:
        entry = archive.getinfo("archive/data/0")
        for number in range(50):
            other = zipfile.ZipInfo(f"archive/data/{number + 1}")
            for field in ("header_offset", "CRC", "compress_size", "file_size", "create_system"):
                setattr(other, field, getattr(entry, field))
            archive.filelist.append(other)
            archive.NameToInfo[other.filename] = other
        archive._didModify = True  # type: ignore[attr-defined]
    _refused(path, "files of more bytes than the .* of the archive")


def test_a_name_twice(tmp_path):
    """Which of two lists of instructions is meant, two readers may see in two ways."""
    path = _archive(tmp_path / "a.ckpt", b"\x80\x02}.")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data.pkl", b"\x80\x02cos\nsystem\nX\x01\0\0\x001\x85R.")
    _refused(path, "of different names, expected at most 65536, all different")


def test_archives_of_other_things(tmp_path):
    inner = io.BytesIO()
    torch.save(STATE, inner)
    with zipfile.ZipFile(tmp_path / "nested.ckpt", "w") as archive:
        archive.writestr("model.ckpt", inner.getvalue())
    _refused(tmp_path / "nested.ckpt", "is a zip archive, but not one of torch.save; unpack it")
    with zipfile.ZipFile(tmp_path / "empty.ckpt", "w"):
        pass
    _refused(tmp_path / "empty.ckpt", "is no archive of torch.save|is a zip archive")
    _archive(tmp_path / "script.pt", b"\x80\x02}.", {"constants.pkl": b"\x80\x02)."})
    _refused(tmp_path / "script.pt", "is a TorchScript archive, which holds a program")
    torch.save(STATE, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    _refused(tmp_path / "old.pt", "it is a pickle in the format of before 2020")
    with tarfile.open(tmp_path / "older.pt", "w") as archive:
        member = tarfile.TarInfo("pickle")
        archive.addfile(member, io.BytesIO())
    _refused(tmp_path / "older.pt", "it is a pickle in the format of before 2020")
    (tmp_path / "bare.bin").write_bytes(pickle.dumps({"a": 1}))
    _refused(tmp_path / "bare.bin", "it is a pickle in the format of before 2020, or another program's")
    (tmp_path / "page.ckpt").write_text("<!doctype html><html>")
    _refused(tmp_path / "page.ckpt", "a web page")
    (tmp_path / "pointer.ckpt").write_text("version https://git-lfs.github.com/spec/v1\n")
    _refused(tmp_path / "pointer.ckpt", "a Git LFS pointer")
    (tmp_path / "nothing.ckpt").write_bytes(b"")
    _refused(tmp_path / "nothing.ckpt", "it is empty")


def test_a_file_that_stops_anywhere(tmp_path):
    torch.save(STATE, tmp_path / "whole.ckpt")
    whole = (tmp_path / "whole.ckpt").read_bytes()
    path = tmp_path / "a.ckpt"
    for size in (1, 4, 30, 200, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:size])
        _refused(path, "cut short|cannot be read as a checkpoint")


def test_a_file_with_bytes_that_were_changed(tmp_path):
    """Wherever a byte changes, the file is refused in words, or its tensors can be read."""
    torch.save(STATE, tmp_path / "whole.ckpt")
    whole = (tmp_path / "whole.ckpt").read_bytes()
    generator, path = np.random.default_rng(4), tmp_path / "a.ckpt"
    refused = 0
    for _ in range(300):
        broken = bytearray(whole)
        for place in generator.integers(0, len(whole), 3):
            broken[place] = generator.integers(256)
        path.write_bytes(broken)
        try:
            _read(path)
        except CheckpointError:
            refused += 1
    assert 0 < refused < 300


def test_safetensors_under_another_name(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": WEIGHT}, tmp_path / "a.ckpt")
    assert torch.equal(_read(tmp_path / "a.ckpt")["a"], WEIGHT)
    torch.save(STATE, tmp_path / "b.safetensors")
    _refused(tmp_path / "b.safetensors", "a pickled checkpoint .*under another name; give .* a name that ends in .ckpt")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"optimizer_states": [{"state": {0: {"exp_avg": WEIGHT}}}], "epoch": 1}, "the state of an optimizer alone"),
        ({"state": {0: {"exp_avg": WEIGHT}}, "param_groups": []}, "the state of an optimizer alone"),
        ({"epoch": 4}, r"holds no tensors \(epoch\); expected a state_dict"),
        (WEIGHT, "holds one tensor, expected a state_dict"),
        ([WEIGHT], "holds one list, expected a state_dict"),
    ],
)
def test_files_without_weights(tmp_path, content, match):
    torch.save(content, tmp_path / "a.ckpt")
    _refused(tmp_path / "a.ckpt", match)


def test_a_pytorch_that_is_not_safe_enough(tmp_path, monkeypatch):
    torch.save(STATE, tmp_path / "a.ckpt")
    for release in ("2.9.1", "2.6.0+cpu", "1.13.0", "unknown"):
        monkeypatch.setattr(torch, "__version__", release)
        _refused(
            tmp_path / "a.ckpt", rf"by PyTorch 2\.10 or later only, found {release[:4]}.*pip install --upgrade 'torch>=2\.10'"
        )


def test_many_names_for_one_dictionary(tmp_path):
    """A dictionary that many others hold is read once: there may be as many ways to it as there are atoms."""
    state = {"a": WEIGHT}
    for _ in range(60):
        state = {"left": state, "right": state}  # type: ignore[dict-item]
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    assert len(_read(tmp_path / "a.ckpt")) == 1
