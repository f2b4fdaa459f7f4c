"""Batches on a cluster of Ray: one whole file for each line, whatever ends meanwhile; and nothing said or sent by Ray itself.

A cluster of several nodes on this machine, with one processor each, stands for machines. Needs the extra `ray`.
"""

from __future__ import annotations

import errno
import http.server
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from bench import many_machines
from sao_onnx.batch.cluster import VARIABLES, connected, room
from sao_onnx.batch.folder import Folder
from sao_onnx.batch.on_ray import Maker, Order
from sao_onnx.batch.sent_bundle import SentBundle
from sao_onnx.batch.tasks import Files, Task
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.errors import ClusterError, FileError, MissingExtraError, RequestError
from sao_onnx.request import Request
from sao_onnx.version import __version__
from tests.processes import COMMAND, GUARD, run, started, wait_until

SHORT = {"seconds": 0.1, "steps": 1}

DEADLY = """
import os, sys
import sao_onnx.batch.on_ray as on_ray
import sao_onnx.cli
class Deadly(on_ray.Maker):
    def _answer(self, task):
        if task.request.prompt == "deadly":
            os._exit(1)
        return super()._answer(task)
Deadly.__module__ = "__main__"  # It is sent to the machines, where it is not installed.
on_ray.Maker = Deadly
on_ray.IN_VAIN = 1
sao_onnx.cli.main()
"""
"""The command, with a prompt that ends the process that it is made in."""


@pytest.fixture(scope="module")
def ray():
    return pytest.importorskip("ray", reason="needs Ray: pip install '.[ray]'")


@pytest.fixture(scope="module")
def cluster(ray):
    with many_machines.nodes(2) as nodes:
        yield nodes


def write_list(folder, rows):
    (folder / "list.jsonl").write_text("".join(f"{json.dumps({**SHORT, **row})}\n" for row in rows))


def batch(bundle, *options):
    return [COMMAND, "batch", "list.jsonl", "-o", "clips", "--seed", 1, "--model", bundle, *options]


def ray_processes():
    import psutil

    names = []
    for process in psutil.process_iter(["cmdline"]):
        names.append(" ".join(process.info["cmdline"] or []))
    return [name for name in names if name.startswith("ray::") and "Map" in name]


def _rehearsed(miniature, tmp_path, clips, **how):
    many_machines.write_list(tmp_path / "list.jsonl", clips)
    found = many_machines.rehearse(miniature, tmp_path, **how)
    assert (found.lines, found.made, found.failed, found.code) == (clips, clips, 0, 0), found.stderr
    assert (found.missing, found.other, found.different) == ((), (), ())
    assert many_machines.strangers(found) == 0, found.stdout
    assert found.stderr == f"{clips} made, 0 there before, 0 failed\n"
    return found


def test_a_dozen_clips_and_a_kill(ray, miniature, tmp_path):
    found = _rehearsed(miniature, tmp_path, 12, kills=1, every=0.5, seed=1, pools=2)
    assert found.processes + found.nodes == 1


@pytest.mark.slow
def test_three_hundred_clips_and_many_kills(ray, miniature, tmp_path):
    """Minutes; its report is bench/results/many-machines.md."""
    found = _rehearsed(miniature, tmp_path, 300, kills=1000, every=6.0, seed=1)
    assert found.processes
    assert found.nodes


def test_lines_that_cannot_be_used_and_clips_that_are_there(cluster, miniature, tmp_path):
    """As without Ray: names, answers, counts; warnings name their lines; a clip that ends every process ends alone."""
    rows = [
        {"prompt": "rain"},
        {"prompt": "wind", "seconds": -1},
        {"prompt": "kick", "output": "../kick.wav"},
        {"prompt": "deadly"},
        {"prompt": "bell", "negative_prompt": "b"},
    ]
    write_list(tmp_path, rows)
    assert run([*batch(miniature, "--shard", "1/5")], cwd=tmp_path).returncode == 0
    program = [sys.executable, "-c", DEADLY, *batch(miniature, "--json", "--ray", cluster.address, "--threads", 1)[1:]]
    done = run(program, cwd=tmp_path)
    answers = {answer["line"]: answer for answer in map(json.loads, done.stdout.splitlines())}
    assert sorted(answers) == [1, 2, 3, 4, 5], done.stderr
    assert (answers[1]["made"], answers[5]["made"]) == (False, True)
    assert (answers[5]["file"], answers[5]["seed"], answers[5]["threads"]) == ("clips/005-bell.wav", 5, 1)
    assert answers[4]["error"]["type"] == "ClusterError"
    assert (
        "clips/004-deadly.wav was begun again and again, and each time its process or its machine came to an end" in done.stderr
    )
    assert "warning: line 5: a negative prompt has no effect without guidance" in done.stderr
    assert done.stderr.splitlines()[-1] == "1 made, 1 there before, 3 failed"
    assert done.returncode == 1
    # The settings of a clip that was there are made up for.
    assert sorted(os.listdir(tmp_path / "clips")) == ["001-rain.json", "001-rain.wav", "005-bell.json", "005-bell.wav"]
    assert sorted(os.listdir(tmp_path)) == ["clips", "list.jsonl"]


def test_two_batches_at_once(cluster, miniature, tmp_path):
    """One on the cluster, one here, in one folder."""
    write_list(tmp_path, [{"prompt": f"rain {i}", "steps": 40} for i in range(20)])
    with started(batch(miniature, "--ray", cluster.address, "--threads", 1), cwd=tmp_path, stderr=subprocess.PIPE) as first:
        wait_until(lambda: list((tmp_path / "clips").glob("*.wav")), first)
        second = run(batch(miniature), cwd=tmp_path)
        _, told = first.communicate(timeout=GUARD)
    assert (first.returncode, second.returncode) == (0, 0), (told, second.stderr)
    assert sorted(os.listdir(tmp_path / "clips")) == [f"{i + 1:03}-rain-{i}.wav" for i in range(20)]


def test_an_interruption_ends_the_actors(cluster, miniature, tmp_path):
    write_list(tmp_path, [{"prompt": f"rain {i}", "steps": 500} for i in range(100)])
    options = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started(batch(miniature, "--ray", cluster.address, "--threads", 1), **options) as process:
        wait_until(lambda: list((tmp_path / "clips").glob("*.wav")), process)
        for number in (signal.SIGINT, signal.SIGINT):
            process.send_signal(number)
            time.sleep(0.2)
        _, told = process.communicate(timeout=GUARD)
    assert (process.returncode, told) == (130, "interrupted\n")
    deadline = time.monotonic() + GUARD
    while ray_processes():
        assert time.monotonic() < deadline, ray_processes()
        time.sleep(0.1)
    assert all(re.fullmatch(r"\d+-rain-\d+\.wav", name) for name in os.listdir(tmp_path / "clips"))


def test_a_place_that_machines_do_not_share(cluster, miniature, tmp_path):
    """Every actor has a memory of its own."""
    write_list(tmp_path, [{"prompt": "rain"}])
    program = "import sao_onnx.batch.on_ray as m, sao_onnx.cli; m.SEEN_WITHIN = 0; sao_onnx.cli.main()"
    arguments = ["batch", "list.jsonl", "-o", "memory://clips", "--model", miniature, "--ray", cluster.address, "--threads", 1]
    done = run([sys.executable, "-c", program, *arguments], cwd=tmp_path)
    assert done.returncode == 1
    assert (
        "has made memory://clips/001-rain.wav, and it is not there from here; name a place that all machines share"
        in done.stderr
    )


def test_no_machine_is_large_enough(cluster, miniature, tmp_path):
    write_list(tmp_path, [{"prompt": "rain"}])
    done = run(batch(miniature, "--ray", cluster.address, "--threads", 64), cwd=tmp_path)
    assert done.returncode == 1
    assert "an engine takes 64 processors" in done.stderr
    assert "the largest of the 2 machines has 1" in done.stderr


def test_room():
    machines = [{"CPU": 8.0, "memory": 4e9}, {"CPU": 3.0, "memory": 64e9}]
    assert room(machines, threads=2, memory=1_000_000_000) == 5
    assert room(machines, threads=4, memory=1_000_000_000) == 2
    assert room([{"CPU": 4.0}], threads=2, memory=10**12) == 2, "where Ray does not say how much memory there is"
    with pytest.raises(ClusterError, match="the largest of the 0 machines has 0"):
        room([], threads=1, memory=1)


def maker(bundle, tmp_path, **changed):
    """An actor that was told of this bundle."""
    order = {"version": __version__, "sent": None} | changed
    arguments = {"model": str(bundle), "precision": "fp32", "threads": 1, "tuned": False}
    options: dict[str, Any] = {"seed": None, "bits": None, "metadata": True, "sidecar": False, "force": False}
    return Maker(Order(Files(Folder(tmp_path), "{index}.wav", **options), arguments=arguments, **order))


def told(made: Maker) -> tuple[Any, bool, str]:
    answer = made._answer(Task(1, "a.wav", Request("rain", seconds=0.1, steps=1, seed=1)))
    return answer.about, answer.ends, str(answer.error)


def test_a_machine_without_the_bundle(bundle, tmp_path):
    """Or with another one, or another release: it is named, and the batch ends."""
    fingerprint = open_bundle(bundle).fingerprint
    about, ends, error = told(maker(bundle, tmp_path, fingerprint="0" * 12))
    assert (about, ends) == (None, True)
    assert re.search(rf"cannot make clips: .* is another bundle \(fingerprint {fingerprint}\).*; or add --send-bundle", error)
    about, ends, error = told(maker(bundle, tmp_path, fingerprint=fingerprint, version="0.0.1"))
    assert (about, ends) == (None, True)
    assert f"sao-onnx is {__version__} there, and 0.0.1 here; install the same release" in error
    bundle.rename(tmp_path / "away")
    about, ends, error = told(maker(bundle, tmp_path, fingerprint=fingerprint))
    assert (about, ends) == (None, True)
    assert re.search(rf"cannot make clips: .*{bundle}.*; or add --send-bundle", error)


def test_a_machine_whose_bundle_is_damaged(bundle, tmp_path):
    """Which shows with the first clip: its size is right, and its digest not."""
    graph = next(iter(bundle.glob("fp32/dit.onnx*")))
    data = bytearray(graph.read_bytes())
    data[-1] ^= 1
    graph.write_bytes(data)
    about, ends, error = told(maker(bundle, tmp_path, fingerprint=open_bundle(bundle).fingerprint))
    assert (about, ends) == (None, True)
    assert "cannot make clips: " in error
    assert graph.name in error


def test_a_full_disk_of_a_machine(bundle, tmp_path, monkeypatch):
    """It ends the batch, as it does here."""

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pyarrow = pytest.importorskip("pyarrow", reason="needs what Ray Data brings: pip install '.[ray]'")
    monkeypatch.setattr(os, "fsync", full)
    made = maker(bundle, tmp_path, fingerprint=open_bundle(bundle).fingerprint)
    table = pyarrow.table({"task": [pickle.dumps(Task(3, "a.wav", Request("rain", seconds=0.1, steps=1)))]})
    ((_, answer),) = map(pickle.loads, made(table)["answer"].to_pylist())
    assert (answer.number, answer.about, answer.ends) == (3, None, True)
    assert type(answer.error) is FileError
    assert "No space left on device" in str(answer.error)
    assert sorted(os.listdir(tmp_path)) == ["bundle"]


def test_a_bundle_is_sent_to_machines_without_it(bundle, tmp_path, monkeypatch):
    """It is kept there, whole, and the next actor finds it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store: dict[int, Any] = {}
    fingerprint = open_bundle(bundle).fingerprint
    sent = SentBundle.of(open_bundle(bundle), lambda array: store.setdefault(len(store), array) is None or len(store) - 1)
    asked: list[int] = []

    def get(key: int) -> Any:
        asked.append(key)
        return store[key]

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=get))
    (tmp_path / "cache" / "sao-onnx" / "bundles" / f"{fingerprint}.partial").mkdir(parents=True)
    bundle.rename(tmp_path / "away")
    about, _, error = told(maker(bundle, tmp_path, fingerprint=fingerprint, sent=sent))
    assert about is not None, error
    assert about["made"]
    assert len(asked) == len(store)
    (tmp_path / "a.wav").unlink()
    assert told(maker(bundle, tmp_path, fingerprint=fingerprint, sent=sent))[0]["made"]
    assert len(asked) == len(store)
    assert pickle.loads(pickle.dumps(sent)) == sent


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("127.0.0.1:1", ClusterError, r"no cluster of Ray answers at 127\.0\.0\.1:1 \(Connection refused\); is it running\?"),
        ("host", RequestError, "expected HOST:PORT, auto or local"),
        ("ray://127.0.0.1:10001", RequestError, "does not work over ray://"),
        ("127.0.0.1:99999", ClusterError, "no cluster of Ray answers"),
    ],
)
def test_an_address_that_does_not_answer(ray, address, error, message):
    with pytest.raises(error, match=message), connected(address):
        pass


def test_what_answers_there_is_no_ray(ray, monkeypatch):
    monkeypatch.setattr("sao_onnx.batch.cluster.LONGER", 5.0)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(ClusterError, match="no cluster of Ray answers"), connected(f"127.0.0.1:{server.server_port}"):
        pass
    server.shutdown()


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(MissingExtraError, match=r"batch --ray needs Ray with its data library; .*sao-onnx\[ray\]"),
        connected("auto"),
    ):
        pass


@pytest.mark.parametrize("given", [["--ray"], ["--ray", "auto"], ["--ray=local"]])
def test_the_address_may_be_left_out(miniature, tmp_path, given):
    """Nothing is to be made, so no cluster is looked for."""
    write_list(tmp_path, [{"prompt": "rain"}])
    assert run(batch(miniature), cwd=tmp_path).returncode == 0
    for arguments in ([*batch(miniature), *given], [COMMAND, "batch", *given, *batch(miniature)[2:]]):
        done = run(arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "0 made, 1 there before, 0 failed\n")


def test_options_without_ray(miniature, tmp_path):
    write_list(tmp_path, [{"prompt": "rain"}])
    assert "--send-bundle goes with --ray" in run(batch(miniature, "--send-bundle"), cwd=tmp_path).stderr


class _Listener:
    """Takes what Ray reports to its makers, in their place."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        listener = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                listener.heard.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *about: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.variables = {
            "RAY_USAGE_STATS_REPORT_URL": f"http://127.0.0.1:{self._server.server_port}/",
            "RAY_USAGE_STATS_REPORT_INTERVAL_S": "1",
        }


def test_a_head_that_is_gone(ray, miniature, tmp_path):
    """Ray would end the process without a word, a minute later."""
    write_list(tmp_path, [{"prompt": f"rain {i}", "steps": 400} for i in range(100)])
    program = "import sao_onnx.cli, sao_onnx.cli.batch as m; m.HEAD_CHECK = 0.5; sao_onnx.cli.main()"
    with many_machines.nodes(1) as nodes:
        arguments = batch(miniature, "--ray", nodes.address, "--threads", 1)[1:]
        with started([sys.executable, "-c", program, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
            wait_until(lambda: list((tmp_path / "clips").glob("*.wav")), process)
            nodes.remove_node(nodes.head_node, allow_graceful=False)
            _, told = process.communicate(timeout=GUARD)
    assert process.returncode == 1
    assert told.startswith("error: the head of the Ray cluster does not answer any longer")


@pytest.mark.slow
def test_ray_reports_nothing(ray, miniature, tmp_path, monkeypatch):
    """A minute or two. Ray would at once, as a cluster shows that we did not start; ours does not in many times that."""
    listener = _Listener()
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    monkeypatch.setattr(many_machines, "KEEPING", listener.variables | {"RAY_USAGE_STATS_ENABLED": "1"})
    start = time.monotonic()
    with many_machines.nodes(0):
        while not listener.heard:
            assert time.monotonic() < start + GUARD
            time.sleep(0.1)
    needed = time.monotonic() - start
    listener.heard.clear()
    monkeypatch.undo()
    write_list(tmp_path, [{"prompt": f"rain {i}", "steps": 400} for i in range(10)])
    with started(batch(miniature, "--ray", "local"), cwd=tmp_path, env=inherited | listener.variables) as process:
        process.wait(timeout=GUARD)
    assert process.returncode == 0
    assert needed > 0
    assert listener.heard == []
