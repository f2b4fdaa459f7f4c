"""Repositories on the hub, against a stand-in on this machine: what is asked for, in which order, and how it fails."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import torch
from huggingface_hub import constants

from sao_onnx import SaoOnnxWarning
from sao_onnx_convert import (
    CheckpointError,
    CheckpointNotFoundError,
    ConversionError,
    DiskSpaceError,
    DownloadError,
    UnsupportedModelError,
    convert,
)
from sao_onnx_convert.source import hub as hub_module
from sao_onnx_convert.source.locate import locate
from tests.stand_in import Answer, StandIn, error, running

CONFIG = "model_config.json"
WEIGHTS = "model.safetensors"


def _use(patch: pytest.MonkeyPatch, url: str) -> None:
    """What `HF_ENDPOINT` sets before huggingface_hub is imported."""
    patch.setattr(constants, "ENDPOINT", url)
    for module in (constants, huggingface_hub.file_download):
        patch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}", raising=False)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with an empty cache, nobody logged in, and retries that do not wait."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # Of what is less than a piece, nothing is kept when the connection breaks; the miniature's weights are less than one.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    with running() as stand_in:
        _use(monkeypatch, stand_in.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        hasty = SimpleNamespace(**(vars(time) | {"sleep": lambda seconds: None}))
        monkeypatch.setattr("huggingface_hub.utils._http.time", hasty)
        monkeypatch.setattr("huggingface_hub.file_download.time", hasty)
        yield stand_in


@pytest.fixture
def published(hub, checkpoint) -> StandIn:
    """The miniature as two repositories: `owner/name`, and its text encoder `owner/t5`."""
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir() if path.is_file()}
    hub.add("owner/name", files | {"LICENSE.md": b"Do good.", "README.md": b"A model."}, ("main", "v1", "refs/pr/3"))
    hub.add("owner/t5", checkpoint / "t5")
    return hub


def _offline(monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    # The sessions of requests are made for one way or the other.
    getattr(huggingface_hub.utils, "reset_sessions", lambda: None)()


@pytest.fixture(autouse=True)
def _fresh_sessions():
    yield
    getattr(huggingface_hub.utils, "reset_sessions", lambda: None)()


def _refused(kind: type[Exception], match: str, place: str = "owner/name", t5: str = "owner/t5", **options) -> str:
    """A conversion that fails; its message, which is one line."""
    with pytest.raises(kind, match=match) as caught:
        convert(place, t5, Path(constants.HF_HUB_CACHE).parent / "bundle", **options)
    message = str(caught.value)
    assert "\n" not in message
    assert not list(Path(constants.HF_HUB_CACHE).parent.glob("*bundle*"))
    return message


def _fetch(place: str, *names: str, report=None) -> Path:
    return locate(place, (CONFIG,)).fetch(names, report)


# --- what is asked for, in which order


def test_the_list_comes_first_and_weights_last(published, tmp_path):
    """Lists and small files of both, then the weights of both, and nothing that is not needed."""
    seen = []
    stop = RuntimeError("far enough")

    def watch(progress):
        seen.append(progress)
        if progress.step == "reading the weights":
            raise stop

    with pytest.raises(RuntimeError, match="far enough"):
        convert("owner/name", "owner/t5", tmp_path / "bundle", progress=watch)
    got = [re.sub(r"\?.*|.*/(?=[\w.]+$)", "", r.path) for r in published.requests if r.method == "GET" and r.sent]
    assert [name for name in got if "content" not in name][:2] != []
    order = [r.path for r in published.requests]
    first_weights = next(i for i, path in enumerate(order) if "/content/" in path)
    for part in ("api/models/owner/name", f"resolve/main/{CONFIG}", "api/models/owner/t5", "config.json", "tokenizer.json"):
        assert next(i for i, path in enumerate(order) if part in path) < first_weights, part
    assert not published.asked("README")
    assert [step.step for step in seen if not step.done][:2] == [
        "downloading model.safetensors of owner/name",
        "downloading model.safetensors of owner/t5",
    ]
    assert seen[0].size == len(published.repositories["owner/name"][WEIGHTS])
    assert [step.index for step in seen if not step.done] == [0, 1, 2]


def test_the_user_agent_tells_no_more_than_names_and_versions(published):
    _fetch("owner/name", CONFIG, WEIGHTS)
    agents = {request.headers["user-agent"] for request in published.requests}
    assert len(agents) == 1
    assert re.fullmatch(r"sao-onnx/[\d.]+; hf_hub/[\d.]+", agents.pop())


def test_a_configuration_that_is_refused_costs_kilobytes(published):
    files = published.repositories["owner/name"]
    config = json.loads(files[CONFIG])
    config["model"]["diffusion"]["diffusion_objective"] = "v"
    published.add("owner/other", files | {CONFIG: json.dumps(config).encode()})
    _refused(UnsupportedModelError, "found 'v'", "owner/other")
    assert not published.asked("/content/")
    assert not published.asked("owner/t5")
    assert sum(request.sent for request in published.requests) < 20_000


def test_a_text_encoder_that_is_refused_costs_kilobytes(published):
    published.add("owner/bert", published.repositories["owner/t5"] | {"config.json": b'{"model_type": "bert"}'})
    _refused(UnsupportedModelError, "model_type: found 'bert'", t5="owner/bert")
    assert not published.asked("/content/")


def test_a_text_encoder_that_cannot_be_built_costs_kilobytes(published):
    config = json.loads(published.repositories["owner/t5"]["config.json"]) | {"num_heads": "many"}
    published.add("owner/odd", published.repositories["owner/t5"] | {"config.json": json.dumps(config).encode()})
    _refused(CheckpointError, "config.json: num_heads: found 'many', expected a whole number", t5="owner/odd")
    assert not published.asked("/content/")


def test_what_is_in_the_cache_is_not_downloaded_again(published):
    _fetch("owner/name", CONFIG, WEIGHTS)
    published.requests.clear()
    source = locate("owner/name", (CONFIG,))
    assert source.absent([CONFIG, WEIGHTS]) == {}
    source.fetch([CONFIG, WEIGHTS])
    assert [request.path.partition("?")[0] for request in published.requests] == ["/api/models/owner/name"]


def test_the_bundle_is_made_of_the_listed_commit_when_the_branch_moves_on(published):
    old = published.commit("owner/name")
    source = locate("owner/name", (CONFIG,))
    files = published.repositories["owner/name"]
    stale = dict(files)

    def moved(request):
        # The branch has a new commit, the old one is still there.
        if f"/resolve/{old}/" in request.path:
            published.repositories["owner/name"] = stale
        else:
            published.repositories["owner/name"] = stale | {"README.md": b"New."}
            published.revisions["owner/name"].add(published.commit("owner/name"))

    published.intercept = moved
    assert source.fetch([CONFIG]).name == old
    assert source.revision == old


def test_progress_of_a_download(published, monkeypatch):
    """Reported by the caller's thread while it waits: nothing yet, then a part, never more than the whole."""
    monkeypatch.setattr(hub_module, "REPORT_SECONDS", 0.01)
    content = published.repositories["owner/name"][WEIGHTS]
    part = 300_000
    seen, reported = [], threading.Event()

    def report(*event):
        seen.append((*event, threading.get_ident()))
        reported.set()

    def wait(request):
        if "/content/" in request.path and request.method == "GET":
            reported.clear()
            assert reported.wait(20)

    cuts = iter([part])
    published.intercept = wait
    published.cut = lambda request: next(cuts, None)
    _fetch("owner/name", WEIGHTS, report=report)
    assert {(name, size, thread) for name, _, size, thread in seen} == {(WEIGHTS, len(content), threading.get_ident())}
    arrived = [done for _, done, _, _ in seen]
    assert arrived[0] == 0
    assert arrived == sorted(arrived)
    # Some of it may still be in a buffer.
    assert any(part // 2 < done <= part for done in arrived)


# --- names


@pytest.mark.parametrize(
    ("written", "revision"),
    [
        ("owner/name", "main"),
        ("owner/name@v1", "v1"),
        ("owner/name@refs/pr/3", "refs/pr/3"),
        ("{url}/owner/name", "main"),
        ("{url}/owner/name/", "main"),
        ("{url}/owner/name?not-for-all-audiences=true#files", "main"),
        ("{url}/owner/name/tree/v1", "v1"),
        ("{url}/owner/name/tree/refs%2Fpr%2F3", "refs/pr/3"),
        ("{url}/owner/name/tree/refs/pr/3", "refs/pr/3"),
        ("{url}/owner/name/blob/v1/model_config.json", "v1"),
        ("{url}/owner/name/resolve/v1/model.safetensors?download=true", "v1"),
        ("https://huggingface.co/owner/name", "main"),
        ("http://hf.co/owner/name/tree/main", "main"),
        ("huggingface.co/owner/name", "main"),
        ("hf://owner/name@v1", "v1"),
        ("https://huggingface.co/owner/name.git", "main"),
    ],
)
def test_names_of_a_repository(published, written, revision):
    source = locate(written.format(url=published.url), (CONFIG,))
    folder = source.fetch([CONFIG])
    assert (source.name, source.origin, source.revision) == ("name", "owner/name", published.commit("owner/name"))
    assert folder.name == source.revision
    assert published.asked(f"/resolve/{revision}/{CONFIG}") or published.asked(f"/resolve/{revision.replace('/', '%2F')}/")


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("some/folder/with/parts", "neither a folder nor a repository; expected a folder, a repository such as"),
        ("./nothing", "neither a folder nor a repository"),
        ("nothing at all", "neither a folder nor a repository"),
        ("", "the name is empty"),
        ("owner/name@", "names no revision after it"),
        ("https://example.com/owner/name", "is an address of example.com, not of the hub at http://127"),
        ("https://github.com/owner/name", "is an address of github.com"),
        ("ftp://huggingface.co/owner/name", "is an address of ftp://"),
        ("https://huggingface.co/datasets/owner/name", "is an address under /datasets, not a model's"),
        ("https://huggingface.co/", "is the hub's own address"),
        ("owner/--name", "neither a folder nor a repository"),
        ("owner/na..me", "neither a folder nor a possible name of a repository: .*'owner/na..me'"),
        ("~nobody_of_that_name/x", "cannot be read|neither a folder"),
        ("x" * 5000, "cannot be read|neither a folder"),
        ("a\0b", "neither a folder"),
    ],
)
def test_names_of_nothing(hub, tmp_path, monkeypatch, written, complaint):
    monkeypatch.chdir(tmp_path)
    _refused(ConversionError, complaint, written)
    assert not hub.asked("/resolve/")


def test_a_folder_comes_first(published, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("owner").mkdir()
    shutil.copytree(checkpoint, "owner/name")
    source = locate("owner/name", (CONFIG,))
    assert source.revision is None
    assert not published.requests


def test_other_names_of_files(published, checkpoint, tmp_path):
    """In a repository, in a folder, and by the address of a file."""
    files = published.repositories["owner/name"]
    renamed = {"conf/small.json": files[CONFIG], "small.safetensors": files[WEIGHTS], "other.ckpt": b"\x80"}
    published.add("owner/renamed", renamed)
    message = _refused(CheckpointError, "holds several files of weights: other.ckpt, small.safetensors", "owner/renamed")
    assert "--weights NAME" in message
    message = _refused(CheckpointError, "lacks model_config.json", "owner/renamed", weights_name="small.safetensors")
    assert "it holds other.ckpt, small.safetensors, conf/small.json; name another file with --config FILE" in message
    assert "--weights" not in message
    folder = tmp_path / "renamed"
    for name, content in renamed.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for place in ("owner/renamed", folder):
        names: dict[str, Any] = {"config_name": "conf/small.json", "weights_name": "small.safetensors"}
        with pytest.raises(KeyboardInterrupt):
            convert(place, "owner/t5", tmp_path / "bundle", **names, progress=_stop_at("exporting text_encoder"))
    address = f"{published.url}/owner/renamed/blob/main/small.safetensors"
    with pytest.raises(KeyboardInterrupt):
        convert(
            address,
            "owner/t5",
            tmp_path / "bundle",
            config_name="conf/small.json",
            progress=_stop_at("exporting text_encoder"),
        )
    names["weights_name"] = "other.ckpt"
    _refused(CheckpointError, "other.ckpt cannot be read as a checkpoint: it is a pickle", "owner/renamed", **names)
    del names["weights_name"]
    address = f"{published.url}/owner/renamed/blob/main/other.ckpt"
    _refused(CheckpointError, "other.ckpt cannot be read as a checkpoint: it is a pickle", address, **names)
    names["weights_name"] = "weights.npz"
    _refused(CheckpointError, "weights.npz is no file of weights; expected .safetensors", "owner/renamed", **names)


def test_a_fine_tune_and_its_base(published, tmp_path, monkeypatch):
    """Found by their names, small files first; offline only what is named, because the hub may have other files."""
    if int(torch.__version__.split(".")[1]) < 10 and torch.__version__.startswith("2."):
        pytest.skip("this PyTorch is too old for files of torch.save")
    files, content = published.repositories["owner/name"], io.BytesIO()
    transformer = {name: tensor for name, tensor in safetensors.torch.load(files[WEIGHTS]).items() if name.startswith("model.")}
    torch.save({"state_dict": transformer}, content)
    published.add("owner/bass", {"base_model_config.json": files[CONFIG], "bass_e1.ckpt": content.getvalue()})
    steps: list[str] = []

    def stop(progress):
        steps.append(progress.step)
        _stop_at("exporting text_encoder")(progress)

    named = {"weights_name": "bass_e1.ckpt", "config_name": "base_model_config.json"}
    every: list[dict[str, Any]] = [{}, named]
    for options in every:
        notes: list[str] = []
        with pytest.raises(KeyboardInterrupt):
            convert("owner/bass", "owner/t5", tmp_path / "x", base="owner/name", progress=stop, note=notes.append, **options)
        assert notes[-1] == "the conditioners and the autoencoder are of owner/name"
        _offline(monkeypatch)
    assert [step for step in steps if step.startswith("downloading")] == [
        "downloading bass_e1.ckpt of owner/bass",
        "downloading model.safetensors of owner/name",
        "downloading model.safetensors of owner/t5",
    ]
    _refused(CheckpointNotFoundError, "^model_config.json and model.safetensors of owner/bass .*cache", "owner/bass")


def test_a_folder_of_a_repository(published):
    """`/tree/main/FOLDER`: its own files, and the licence at the top."""
    from sao_onnx_convert.source.config_names import choose_config
    from sao_onnx_convert.source.files import choose_checkpoint, weight_names

    files = published.repositories["owner/name"]
    inside = {f"small/{name}": files[name] for name in (CONFIG, WEIGHTS)}
    published.add("owner/many", inside | {"LICENSE": b"Do good.", "large/LICENSE": b"No."})
    source = locate(f"{published.url}/owner/many/tree/main/small", (CONFIG,))
    chosen, config = choose_checkpoint(source, weight_names(source)), choose_config(source, None, [])
    assert config is not None
    assert (config, chosen.weights.path, chosen.licenses) == (f"small/{CONFIG}", f"small/{WEIGHTS}", ("LICENSE",))
    assert (source.fetch([config, *chosen.licenses]) / config).read_bytes() == files[CONFIG]


def _stop_at(step: str):
    def watch(progress):
        if progress.step == step:
            raise KeyboardInterrupt

    return watch


# --- text encoders


@pytest.mark.parametrize(
    ("names", "small", "weights"),
    [
        (
            ["config.json", "model.safetensors", "tokenizer.json", "spiece.model", "tokenizer_config.json", "tf_model.h5"],
            ["config.json", "tokenizer.json", "tokenizer_config.json"],
            ["model.safetensors"],
        ),
        (["config.json", "model.safetensors", "spiece.model"], ["config.json", "spiece.model"], ["model.safetensors"]),
        (
            [
                "config.json",
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "tokenizer.json",
            ],
            ["config.json", "model.safetensors.index.json", "tokenizer.json"],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
        (
            [
                "model_index.json",
                "model.safetensors",
                "text_encoder/config.json",
                "text_encoder/model.safetensors",
                "tokenizer/tokenizer.json",
                "tokenizer/special_tokens_map.json",
                "transformer/config.json",
            ],
            ["text_encoder/config.json", "tokenizer/tokenizer.json", "tokenizer/special_tokens_map.json"],
            ["text_encoder/model.safetensors"],
        ),
    ],
)
def test_files_of_a_text_encoder(hub, names, small, weights):
    from sao_onnx_convert.source.t5_files import LANDMARKS, choose_t5

    hub.add("owner/t5", {name: name.encode() for name in names})
    source = locate("owner/t5", LANDMARKS)
    chosen = choose_t5(source)
    assert (list(chosen.small), list(chosen.weights.files)) == (small, weights)
    folder = source.fetch(chosen.all)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {*small, *weights}


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (
            [],
            "lacks config.json and model.safetensors and tokenizer.json .or spiece.model.; it is empty; expected config.json",
        ),
        (["README.md"], "owner/none lacks config.json and .*; it holds README.md; expected config.json"),
        (["config.json", "tokenizer.json", "pytorch_model.bin"], "pytorch_model.bin is a pickled checkpoint"),
        (["config.json", "tokenizer.json", "flax_model.msgpack"], "lacks model.safetensors; it holds config.json"),
        (
            ["config.json", "model.safetensors"],
            "lacks tokenizer.json .or spiece.model.; it holds model.safetensors, config.json; expected",
        ),
        (
            ["config.json", "model-00001-of-00002.safetensors", "tokenizer.json"],
            "lacks model.safetensors.index.json; it holds model-00001",
        ),
    ],
)
def test_repositories_that_hold_no_text_encoder(published, names, complaint):
    published.add("owner/none", dict.fromkeys(names, b"{}"))
    _refused(CheckpointError, complaint, t5="owner/none")


def test_a_repository_without_the_wanted_files_says_what_it_holds(published):
    published.add("owner/empty", {})
    _refused(CheckpointError, r"owner/empty lacks model_config.json and model.safetensors; it is empty", "owner/empty")
    published.add("owner/other", {f"{i:02}.txt": b"" for i in range(20)} | {".gitattributes": b""})
    message = _refused(CheckpointError, "it holds 00.txt, 01.txt,.* and 8 more", "owner/other")
    assert ".gitattributes" not in message
    config = published.repositories["owner/name"][CONFIG]
    published.add("owner/pickles", {CONFIG: config, "model.ckpt": b"\x80", "vae/model.safetensors": b""})
    _refused(CheckpointError, r"model\.ckpt cannot be read as a checkpoint: it is a pickle", "owner/pickles")


# --- what the hub refuses


def test_the_token_goes_to_the_hub_alone(published, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    _fetch("owner/name", CONFIG, WEIGHTS)
    tokens = {"/content/" in request.path: request.headers.get("authorization") for request in published.requests}
    assert tokens == {False: "Bearer hf_abc", True: None}


def test_files_without_the_hubs_headers(published):
    _answers(published, "/resolve/", Answer(200, {"Content-Length": "2"}, b"{}"))
    _refused(DownloadError, "does not answer as a hub does.*check HF_ENDPOINT")


def _answers(hub, part: str, answer: Answer, method: str | None = None) -> None:
    def intercept(request):
        return answer if part in request.path and method in (None, request.method) else None

    hub.intercept = intercept


GATED = (
    "Access to model owner/name is restricted and you are not in the authorized list. Visit https://huggingface.co/owner/name "
    "to ask for access."
)
FINE_GRAINED = "Please enable access to public gated repositories in your fine-grained token settings to view this repository."


def test_a_gated_repository_without_a_token(published):
    """Its list is public, its files are not."""
    _answers(published, "/resolve/", error(401, "GatedRepo", "Access to model owner/name is restricted."))
    message = _refused(CheckpointNotFoundError, "owner/name is gated", "owner/name")
    assert "(401: Access to model owner/name is restricted)" in message
    assert f"accept its licence at {published.url}/owner/name, then run `hf auth login`" in message


@pytest.mark.parametrize("part", ["/resolve/", "/api/models"])
@pytest.mark.parametrize("sentence", [GATED, FINE_GRAINED])
def test_a_gated_repository_without_the_right(published, monkeypatch, part, sentence):
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    _answers(published, part, error(403, "GatedRepo", sentence))
    message = _refused(CheckpointNotFoundError, "owner/name is gated")
    assert f"(403: {sentence.rstrip('.')})" in message
    assert "with the account of the token in HF_TOKEN" in message
    assert f"{published.url}/settings/tokens" in message
    assert all(request.headers["authorization"] == "Bearer hf_abc" for request in published.requests)


@pytest.mark.parametrize(
    ("status", "code", "sentence", "token", "parts"),
    [
        (401, None, "Invalid username or password.", None, ["was not found at URL/owner/name (401:", "hf auth login"]),
        (
            401,
            "RepoNotFound",
            "Repository not found",
            "hf_x",
            ["was not found", "whether the account of the token in HF_TOKEN"],
        ),
        (
            401,
            None,
            "Invalid credentials in Authorization header",
            "hf_x",
            ["does not accept the token in HF_TOKEN", "/settings/"],
        ),
        (401, None, 'User Access Token "x" is expired', "hf_x", ["does not accept the token in HF_TOKEN", "is expired"]),
        (403, None, "Access to this resource is disabled.", None, ["was disabled by the hub", "URL/owner/name"]),
        (403, None, "You are blocked.", "hf_x", ["the hub refuses owner/name", "You are blocked", "URL/settings/tokens"]),
        (404, "RepoNotFound", "Repository not found", None, ["was not found at URL/owner/name (404", "check the name"]),
        (
            404,
            "RevisionNotFound",
            "Invalid rev id: x",
            None,
            ["has no revision 'main' (404: Invalid rev id: x); see URL/owner/name"],
        ),
        (429, None, "We had to rate limit you.", None, ["asked too often", "We had to rate limit you", "hf auth login"]),
        (500, None, "Internal Error - We're working hard to fix this", None, ["fails (500: Internal Error", "try again later"]),
        (503, None, None, None, ["the hub at URL fails (503", "try again later"]),
        (418, None, "I am a teapot.", None, ["the hub refuses owner/name (418: I am a teapot)"]),
    ],
)
def test_refusals_of_the_hub(published, monkeypatch, status, code, sentence, token, parts):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    _answers(published, "/api/models", error(status, code, sentence))
    message = _refused(CheckpointError, "owner/name|the hub")
    for part in parts:
        assert part.replace("URL", published.url) in message
    # The same answer to the request for a file.
    _answers(published, "/resolve/", error(status, code, sentence))
    message = _refused(CheckpointError, "owner/name|the hub")
    if code != "RevisionNotFound" and sentence:
        assert sentence.rstrip(".") in message


def test_the_time_to_wait(published):
    _answers(published, "/api/models", error(429, None, "Slow down.", Retry_After="77"))
    _refused(DownloadError, r"asked too often.*429: Slow down.*wait 77 seconds")


def test_a_revision_that_is_not_there(published):
    message = _refused(CheckpointNotFoundError, "owner/name has no revision 'v9'", "owner/name@v9")
    assert "Invalid rev id: v9" in message


def test_a_repository_that_is_not_there(published):
    _refused(
        CheckpointNotFoundError,
        r"owner/nothing was not found at .*/owner/nothing \(404: Repository not found\)",
        "owner/nothing",
    )


def test_a_file_that_vanishes_after_the_list(published):
    _answers(published, "/resolve/", error(404, "EntryNotFound", "Entry not found", X_Repo_Commit="0" * 40))
    _refused(CheckpointNotFoundError, r"model_config.json of owner/name is not there \(404: Entry not found\)")


def test_a_repository_that_was_renamed(published):
    published.renamed["old/name"] = "owner/name"
    source = locate("old/name", (CONFIG,))
    assert (source.fetch([CONFIG]) / CONFIG).read_bytes() == published.repositories["owner/name"][CONFIG]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, {"Content-Type": "text/html"}, b"<html><title>Please log in to the hotel's network</title></html>"),
        Answer(200, {"Content-Type": "application/json"}, b"{}"),
        Answer(200, {"Content-Type": "application/json"}, b"[1]"),
    ],
)
def test_an_endpoint_that_is_no_hub(published, answer):
    published.intercept = lambda request: answer
    _refused(DownloadError, "does not answer as a hub does.*check HF_ENDPOINT")


# --- connections


def test_nothing_listens(hub):
    hub.close()
    message = _refused(DownloadError, "cannot be reached \\(Connection refused\\)")
    assert f"the hub at {hub.url}" in message
    assert constants.HF_HUB_CACHE in message


def test_a_name_that_cannot_be_resolved(hub, monkeypatch):
    _use(monkeypatch, "http://hub.invalid")
    _refused(DownloadError, r"the hub at http://hub\.invalid cannot be reached \(.*(not known|resolution|No address).*\)")


def test_an_endpoint_that_is_no_address(hub, monkeypatch):
    _use(monkeypatch, "no address")
    _refused(DownloadError, "no address does not answer as a hub does|cannot be reached")


def test_the_hub_is_gone_and_all_is_in_the_cache(published, tmp_path):
    commit = _fetch("owner/name", CONFIG, WEIGHTS).name
    published.close()
    with pytest.warns(SaoOnnxWarning, match=rf"cannot be asked \(Connection refused\); owner/name is taken.*{commit[:12]}"):
        source = locate("owner/name", (CONFIG,))
    assert source.revision == commit
    assert (source.fetch([CONFIG, WEIGHTS]) / WEIGHTS).is_file()
    for written in ("owner/name@v1", "owner/other"):
        _refused(DownloadError, "is not in the download cache", written)


def test_the_hub_fails_and_all_is_in_the_cache(published):
    _fetch("owner/name", CONFIG)
    published.intercept = lambda request: error(503)
    with pytest.warns(SaoOnnxWarning, match="cannot be asked"):
        assert locate("owner/name", (CONFIG,)).fetch([CONFIG]).name == published.commit("owner/name")
    # A refusal is not mended by what is in the cache.
    published.intercept = lambda request: error(404, "RepoNotFound", "Repository not found")
    _refused(CheckpointNotFoundError, "was not found")


def test_offline_by_choice(published, monkeypatch):
    _fetch("owner/name", CONFIG)
    _offline(monkeypatch)
    published.requests.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = locate("owner/name", (CONFIG,))
    assert source.fetch([CONFIG]).name == published.commit("owner/name")
    message = _refused(CheckpointNotFoundError, "model.safetensors of owner/name is not in the download cache")
    assert "HF_HUB_OFFLINE is set; unset it" in message
    _refused(CheckpointNotFoundError, "owner/other is not in the download cache .*HF_HUB_OFFLINE is set", "owner/other")
    assert not published.requests


# --- downloads that break off


def test_an_interrupted_download_goes_on_by_itself(published):
    content = published.repositories["owner/name"][WEIGHTS]
    cuts = iter([300_000, 300_000])
    published.cut = lambda request: next(cuts, None) if "/content/" in request.path else None
    assert (_fetch("owner/name", WEIGHTS) / WEIGHTS).read_bytes() == content
    ranges = [request.headers.get("range") for request in published.asked("/content/", "GET")]
    assert ranges == [None, "bytes=300000-", "bytes=600000-"]


@pytest.mark.parametrize("part", ["model.safetensors", "tokenizer.json"])
def test_a_text_encoder_of_which_only_a_part_is_in_the_cache(published, monkeypatch, part):
    """What is missing there, or a pickle that another program left, says nothing about what the hub has."""
    published.add("owner/t5", published.repositories["owner/t5"] | {"pytorch_model.bin": b"\x80"})
    _fetch("owner/name", CONFIG, WEIGHTS)
    source = locate("owner/t5", ("config.json",))
    source.fetch([name for name in source.names if name != part])
    _offline(monkeypatch)
    message = _refused(CheckpointNotFoundError, f"^{part}.* of owner/t5 is not in the download cache .*HF_HUB_OFFLINE is set")
    assert "pickled" not in message


def test_a_checkpoint_of_which_only_a_pickle_is_in_the_cache(published, monkeypatch):
    published.add("owner/name", published.repositories["owner/name"] | {"model.ckpt": b"\x80"})
    _fetch("owner/name", CONFIG, "model.ckpt")
    _offline(monkeypatch)
    message = _refused(CheckpointNotFoundError, "^model.safetensors of owner/name is not in the download cache")
    assert "pickled" not in message


def test_an_interrupted_download_that_is_then_offline(published):
    """The message says how far it came, and the next run goes on from there."""
    if int(huggingface_hub.__version__.partition(".")[0]) >= 1:
        pytest.skip("this release of huggingface_hub removes what has arrived of a file")
    content = published.repositories["owner/name"][WEIGHTS]
    half = 450_000

    def cut(request):
        if "/content/" not in request.path:
            return None
        published.close()
        return half

    published.cut = cut
    message = _refused(DownloadError, "the download of model.safetensors of owner/name broke off after")
    assert f"after {half / 1e6:.1f} MB of {len(content) / 1e6:.1f} MB (Connection refused)" in message
    assert "run the same command again and it goes on from there" in message
    # Offline, the next run knows no more than that something is missing; the one after that downloads the rest alone.
    with pytest.warns(SaoOnnxWarning, match="cannot be asked"):
        _refused(DownloadError, "the download of model.safetensors of owner/name broke off after")
    with running() as again, pytest.MonkeyPatch.context() as patch:
        _use(patch, again.url)
        again.add("owner/name", published.repositories["owner/name"])
        source = locate("owner/name", (CONFIG,))
        assert source.absent([WEIGHTS]) == {WEIGHTS: len(content) - half}
        assert (source.fetch([WEIGHTS]) / WEIGHTS).read_bytes() == content
        assert [request.headers.get("range") for request in again.asked("/content/", "GET")] == [f"bytes={half}-"]


def test_a_connection_that_never_brings_anything(published):
    published.cut = lambda request: 0 if "/content/" in request.path else None
    _refused(DownloadError, r"broke off before model\.safetensors of owner/name was here \(.*\); run the same command again")


def test_a_file_shorter_than_listed(published):
    """The hub's store has less of a file than the list says. What arrived is not taken for a beginning."""
    content = published.repositories["owner/name"][WEIGHTS]

    def short(request):
        if "/content/" in request.path:
            return Answer(200, {"ETag": '"x"'}, content[:1000]) if request.method == "GET" else None
        return None

    published.intercept = short
    _refused(DownloadError, "did not arrive whole: Consistency check failed.*run the same command again")
    published.intercept = lambda request: None
    assert (_fetch("owner/name", WEIGHTS) / WEIGHTS).read_bytes() == content


def test_a_file_that_arrives_damaged(published):
    content = published.repositories["owner/name"][WEIGHTS]

    def damaged(request):
        if "/content/" in request.path and request.method == "GET":
            return Answer(200, {}, content[:-1] + bytes([content[-1] ^ 1]))
        return None

    published.intercept = damaged
    _refused(DownloadError, "model.safetensors of owner/name arrived damaged.*run the same command again")
    published.intercept = lambda request: None
    assert (_fetch("owner/name", WEIGHTS) / WEIGHTS).read_bytes() == content


def test_a_file_that_was_cut_in_the_cache(published):
    path = _fetch("owner/name", WEIGHTS) / WEIGHTS
    path.resolve().write_bytes(b"cut")
    message = _refused(DownloadError, r"has 3 bytes, expected \d+; delete it and run the same command again")
    Path(message.partition(" has ")[0]).unlink()
    _fetch("owner/name", WEIGHTS)


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("Data processing error: CAS service error : ReqwestMiddleware Error:\nRequest failed after 5 retries"),
        ConnectionError("Network error: error sending request for url (http://cas.invalid/v2)"),
        TimeoutError("Network error: timed out"),
        PermissionError("Authentication error: token expired"),
    ],
)
def test_a_failure_of_xet(published, monkeypatch, failure):
    """hf_xet raises bare built-in errors, and what it leaves may have holes."""
    source = locate("owner/name", (CONFIG,))
    digest = hashlib.sha256(published.repositories["owner/name"][WEIGHTS]).hexdigest()
    partial = Path(constants.HF_HUB_CACHE) / "models--owner--name" / "blobs" / f"{digest}.incomplete"

    def broken(*arguments, **options):
        partial.parent.mkdir(parents=True)
        partial.write_bytes(b"\0" * 5000)
        assert source.absent([WEIGHTS])[WEIGHTS] < len(published.repositories["owner/name"][WEIGHTS])
        raise failure

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", broken)
    with pytest.raises(DownloadError, match=r"error: .*; run the same command again, or with HF_HUB_DISABLE_XET=1") as caught:
        source.fetch([WEIGHTS])
    assert str(failure).split("\n")[0].rstrip(":") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not partial.exists()


# --- the disk


@pytest.mark.parametrize(
    "failure",
    [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), RuntimeError("I/O error: No space left on device (os error 28)")],
)
def test_a_disk_that_fills_up(published, monkeypatch, failure):
    def full(*arguments, **options):
        raise failure

    source = locate("owner/name", (CONFIG,))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(DiskSpaceError, match=r"there is no room for model\.safetensors of owner/name of .* MB in .*HF_HOME"):
        source.fetch([WEIGHTS])


def test_a_cache_that_cannot_be_written(published, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file")
    _refused(DownloadError, "cache.*cannot be written.*HF_HOME")


def test_room_is_looked_at_before_the_download(published, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1_000_000))
    message = _refused(DiskSpaceError, "the disk has 0.00 GB free, and 0.0. GB are needed")
    assert re.search(r"0\.0\d GB for the bundle in \S+ and 0\.0\d GB for downloads in \S+; make room", message)
    assert not published.asked("/content/")


def test_room_for_what_is_here_already_is_not_wanted(checkpoint, tmp_path, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(DiskSpaceError) as caught:
        convert(checkpoint, checkpoint / "t5", tmp_path / "bundle")
    assert "downloads" not in str(caught.value).partition(";")[0]
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(total=0, free=0))
    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, checkpoint / "t5", tmp_path / "bundle", progress=_stop_at("exporting text_encoder"))
