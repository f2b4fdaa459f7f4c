"""Many clients, and clips of several windows: each gets its own, and hears how far it is."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import json
import random
import time
from typing import Any

import httpx
import pytest

from tests.processes import COMMAND, GUARD, succeed
from tests.serve.asking import QUICK, samples, server_sent
from tests.serve.conftest import address_of, serving


@pytest.fixture(scope="module")
def from_the_command_line(model, tmp_path_factory) -> list[bytes]:
    """Samples of the seeds 0 to 9, made by `batch` with one thread."""
    folder = tmp_path_factory.mktemp("batch")
    lines = [{**QUICK, "seed": seed, "output": f"{seed}.wav"} for seed in range(10)]
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    succeed([COMMAND, "batch", folder / "list.jsonl", "--model", model, "--threads", 1, "-o", folder])
    return [samples((folder / f"{seed}.wav").read_bytes()).tobytes() for seed in range(10)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_many_clients_at_once_get_what_each_asked_for(request, model, from_the_command_line, tmp_path, jobs):
    """A hundred requests from twenty clients, a quarter of them cancelled."""
    with contextlib.ExitStack() as stack:
        if jobs == 1:
            address = request.getfixturevalue("address")
        else:
            options = ("--model", model, "--queue", 200, "--jobs", jobs, "--threads", jobs)
            address = address_of(stack.enter_context(serving(tmp_path, *options)), tmp_path)

        def ask(client, index: int) -> tuple[int, str, bytes]:
            chance = random.Random(index)
            job = client.post("/v1/jobs", json=QUICK | {"seed": index % 10}).json()
            if index % 4 == 0:
                time.sleep(chance.random() / 10)
                if client.delete(f"/v1/jobs/{job['id']}").json()["state"] == "done":
                    return index, "cancelled", b""  # It was dropped.
            told = [event for name, event in server_sent(client, job["id"]) if name != "preview"]
            assert is_forward(told), told
            if told[-1]["state"] != "done":
                return index, told[-1]["state"], b""
            return index, "done", client.get(f"/v1/jobs/{job['id']}/audio").content

        def be_client(number: int) -> list[tuple[int, str, bytes]]:
            with httpx.Client(base_url=address, timeout=GUARD) as client:
                return [ask(client, index) for index in range(number, 100, 20)]

        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            found = list(itertools.chain(*pool.map(be_client, range(20))))
    assert {state for index, state, _ in found if index % 4} == {"done"}
    assert {state for _, state, _ in found} <= {"done", "cancelled"}
    for index, state, data in found:
        if state == "done":
            assert samples(data).tobytes() == from_the_command_line[index % 10], "it is that of the command line"


def is_forward(told: list[dict[str, Any]]) -> bool:
    """Nothing that is told of a job goes backwards: what is left gets less, and what is done more."""
    order = ["queued", "running", "done", "failed", "cancelled"]
    pairs = list(itertools.pairwise(told))
    return all(
        after["position"] <= before["position"]
        and after["step"] >= before["step"]
        and after["steps"] >= before["steps"]
        and after["fraction"] >= before["fraction"]
        and order.index(after["state"]) >= order.index(before["state"])
        for before, after in pairs
    )


def test_progress_over_several_windows_goes_on(client):
    """What is longer than the window, and two clips that wait behind it."""
    bodies = [{"prompt": "kick", "seconds": 6, "steps": 5, "seed": 1, "preview": True}, QUICK, QUICK]
    ids = [client.post("/v1/jobs", json=body).json()["id"] for body in bodies]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        heard = list(pool.map(lambda one: server_sent(client, one), ids))
    for events in heard:
        told = [event for name, event in events if name != "preview"]
        assert is_forward(told), told
        assert told[-1]["state"] == "done"
        assert (told[-1]["step"], told[-1]["fraction"], told[-1]["position"]) == (told[-1]["steps"], 1, 0)
        assert {event["steps"] for event in told} <= {0, told[-1]["steps"]}
    steps = [event["step"] for name, event in heard[0] if name == "running"]
    assert heard[0][-1][1]["steps"] == 3 * 5
    assert any(0 < step < 5 for step in steps)
    assert any(10 < step < 15 for step in steps), "every window is told of"
    assert heard[2][0][1]["position"] == 2
