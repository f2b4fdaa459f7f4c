"""Places for clips that fsspec reaches: whole files or none, nothing replaced, and the same clips as in a folder."""

from __future__ import annotations

import os
import pickle
import threading

import pytest

from sao_onnx.batch.clips import Clips
from sao_onnx.batch.folder import Folder
from sao_onnx.batch.lists import Line
from sao_onnx.batch.places import open_place
from sao_onnx.batch.storage import Storage
from sao_onnx.batch.tasks import Answer, Files, Task
from sao_onnx.errors import FileError, MissingExtraError, OutputExistsError
from tests.processes import COMMAND, run

fsspec = pytest.importorskip("fsspec", reason="needs fsspec: pip install '.[storage]'")

SHORT = {"seconds": 0.1, "steps": 1, "seed": 3}


@pytest.mark.parametrize("text", ["s3:b", "s3:/b/x", "S3:/b", "gs:bucket", "s3:songs", "file:/clips", "memory:x"])
def test_an_address_without_its_slashes(text):
    scheme, rest = text.lower().split(":", 1)
    with pytest.raises(FileError, match=f"did you mean {scheme}://{rest.lstrip('/')}\\? A folder is ./"):
        open_place(text)


@pytest.mark.parametrize(
    "text", ["c:clips", "C:/clips", "D:\\clips", "take:1", "12:30", "./s3:b", "s3", "s3:", "s3: songs", "my/s3:b"]
)
def test_folders_with_colons(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_place(text), Folder)


def test_a_folder_that_looks_like_an_address_and_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:b").mkdir()
    assert isinstance(open_place("s3:b"), Folder)


@pytest.fixture(params=["memory", "local"])
def storage(request, tmp_path):
    """Places of both kinds of file systems: one in which files appear whole, and one in which they are renamed."""
    address = f"memory://{tmp_path.name}/clips" if request.param == "memory" else f"file://{tmp_path}/clips"
    place = Storage(address)
    place.make()
    return place


def names(place):
    system, root = fsspec.core.url_to_fs(place.path(""))
    return sorted(path.rsplit("/", 1)[-1] for path in system.ls(root, detail=False))


def files_in(place, **changed):
    options = {"name": "{index}.wav", "seed": None, "bits": None, "metadata": True, "sidecar": True, "force": False}
    return Files(place, **(options | changed))


def test_clips_are_those_of_a_folder(engine, storage, tmp_path):
    made = Clips(engine, files_in(storage))
    alone = Clips(engine, files_in(Folder(tmp_path)))
    line = Line(1, 1, "rain", SHORT)
    task = made.checked(line)
    assert isinstance(task, Task)
    about = made.make(task).about
    assert about is not None
    assert (about["made"], about["file"]) == (True, storage.path("1.wav"))
    assert alone.make(task).error is None
    assert names(storage) == ["1.json", "1.wav"]
    with storage.reading("1.wav") as copy:
        assert copy.read_bytes() == (tmp_path / "1.wav").read_bytes()
    # Run again, by others: it is there. Another request is told, and replaces nothing.
    again = Clips(engine, files_in(pickle.loads(pickle.dumps(storage)))).checked(line)
    assert isinstance(again, Answer)
    assert again.about == {"made": False, "file": storage.path("1.wav")}
    other = Clips(engine, files_in(storage)).checked(Line(1, 1, "wind", SHORT))
    assert isinstance(other, Answer)
    assert isinstance(other.error, OutputExistsError)
    assert "was made of another request (prompt: 'rain', now 'wind')" in str(other.error)
    assert not other.ends
    forced = Clips(engine, files_in(storage, force=True)).answer(Line(1, 1, "wind", SHORT))
    assert forced.about is not None
    assert forced.about["made"]


def test_one_of_many_writers_wins(storage):
    """And the file is its whole; the others are told."""
    contents, refused = [bytes([index]) * 100_000 for index in range(8)], []
    ready = threading.Barrier(len(contents))

    def write(data):
        ready.wait()
        try:
            storage.write("a.wav", data, overwrite=False)
        except OutputExistsError as error:
            refused.append(error)

    threads = [threading.Thread(target=write, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(storage) == ["a.wav"]
    with storage.reading("a.wav") as copy:
        assert copy.read_bytes() in contents
    with pytest.raises(OutputExistsError, match="exists"):
        storage.write("a.wav", b"other", overwrite=False)
    storage.write("a.wav", b"other", overwrite=True)
    with storage.reading("a.wav") as copy:
        assert copy.read_bytes() == b"other"


@pytest.mark.parametrize("method", ["pipe_file", "mv"])
def test_nothing_half_written_is_left(storage, monkeypatch, method):
    system, _ = fsspec.core.url_to_fs(storage.path(""))
    original = getattr(type(system), method)

    def failing(self, *arguments, **options):
        if method == "pipe_file" and "memory" not in storage.path(""):
            original(self, *arguments, **options)
        raise PermissionError(13, "Permission denied")

    if method == "mv" and "memory" in storage.path(""):
        pytest.skip("nothing is renamed there")
    monkeypatch.setattr(type(system), method, failing)
    with pytest.raises(FileError, match=r"a\.wav cannot be used: Permission denied"):
        storage.write("a.wav", b"data", overwrite=False)
    assert names(storage) == []


def test_a_folder_in_the_place_of_a_file(storage):
    system, root = fsspec.core.url_to_fs(storage.path(""))
    system.makedirs(f"{root.rstrip('/')}/a.wav/b")
    with pytest.raises(FileError, match="is a folder; give a file name"):
        storage.require_free("a.wav", overwrite=True)


@pytest.mark.parametrize("text", ["clips", "~/clips", "c:\\clips", "a:b", "/x/y", "."])
def test_folders(text):
    assert isinstance(open_place(text), Folder)


def test_addresses(tmp_path):
    assert isinstance(open_place("memory://clips"), Storage)
    assert open_place("memory://clips/").path("a.wav") == "memory://clips/a.wav"
    local = open_place(f"file://{tmp_path}/clips")
    assert isinstance(local, Folder)
    assert local.path("a.wav") == str(tmp_path / "clips" / "a.wav")
    with pytest.raises(FileError, match=r"cannot be used: .*nonsense"):
        open_place("nonsense://clips")


def test_without_fsspec(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(MissingExtraError, match=r"writing to s3://bucket needs fsspec; .*sao-onnx\[storage\]"):
        open_place("s3://bucket")


def test_the_command(miniature, tmp_path):
    (tmp_path / "list.txt").write_text("rain\n")
    options = ["list.txt", "--model", miniature, "--seed", 1]
    done = run([COMMAND, "batch", *options, "-o", f"file://{tmp_path}/clips"], cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "clips" / "001-rain.wav"))
    done = run([COMMAND, "batch", *options, "-o", "memory://clips"], cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "memory://clips/001-rain.wav")
    assert sorted(os.listdir(tmp_path)) == ["clips", "list.txt"]
