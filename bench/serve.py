"""What the server costs beside the clip: time to the first event and to the audio, memory over many requests, throughput.

    python -m bench.serve [--results FOLDER]

Clips of sao-tiny of 0.2 s in 2 steps and a window of 0.2 s, so that the server's own share shows.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil

from bench.common import ROOT
from sao_onnx.engine import load
from sao_onnx.runtime.machine import describe_machine

BODY = {"prompt": "kick drum", "seconds": 0.2, "window_seconds": 0.2, "steps": 2, "seed": 1}
TIMED, REQUESTS, CLIENTS = 30, 500, 20


def main() -> None:
    """Measure, and write the report."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="folder for the report")
    results = options.parse_args().results
    command = [sys.executable, "-c", "from sao_onnx.cli import main; main()", "serve", "--port", "0", "--queue", str(CLIENTS)]
    began = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found is not None
        try:
            with httpx.Client(base_url=found[0], timeout=600) as client:
                client.get("/healthz").raise_for_status()
                rows = [("start to the first answer", f"{time.monotonic() - began:.2f} s")]
                rows += timings(client) + load_of_many(found[0]) + growth(client, process.pid)
        finally:
            process.terminate()
    machine = describe_machine()
    about = f"{machine.processor}, {machine.cores} cores, load {psutil.getloadavg()[0]:.1f}; `python -m bench.serve`; "
    about += "sao-tiny, 0.2 s in a window of its own length, 2 steps"
    lines = [
        "# The server",
        "",
        about,
        "",
        "| what | found |",
        "|---|---|",
        *(f"| {what} | {value} |" for what, value in rows),
        "",
    ]
    (results / "serve.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


def timings(client: httpx.Client) -> list[tuple[str, str]]:
    """Medians of one client, and of the engine without a server. The two take turns, because other programs run, too."""
    engine = load()
    firsts, audios, alone = [], [], []
    for _ in range(TIMED):
        began = time.perf_counter()
        engine.generate("kick drum", seconds=0.2, window_seconds=0.2, steps=2, seed=1).encoded(".wav")
        alone.append(time.perf_counter() - began)
        began = time.perf_counter()
        job = client.post("/v1/jobs", json=BODY).raise_for_status().json()
        with client.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
            next(answer.iter_lines())
            firsts.append(time.perf_counter() - began)
        began = time.perf_counter()
        client.post("/v1/generate", json=BODY).raise_for_status()
        audios.append(time.perf_counter() - began)
    first, audio, engine_alone = (1000 * statistics.median(times) for times in (firsts, audios, alone))
    return [
        ("request to first event", f"{first:.0f} ms"),
        ("request to audio", f"{audio:.0f} ms"),
        ("the same clip from the engine, as the command line makes it", f"{engine_alone:.0f} ms"),
        ("the server's share", f"{audio - engine_alone:.0f} ms"),
    ]


def load_of_many(address: str) -> list[tuple[str, str]]:
    """Clips a second with many clients at once."""

    def ask(index: int) -> int:
        with httpx.Client(base_url=address, timeout=600) as client:
            return sum(client.post("/v1/generate", json=BODY).status_code == 200 for _ in range(3))

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        made = sum(pool.map(ask, range(CLIENTS)))
    return [(f"{CLIENTS} clients, 3 clips each", f"{made} clips, {made / (time.monotonic() - began):.1f} a second")]


def growth(client: httpx.Client, pid: int) -> list[tuple[str, str]]:
    """Resident memory after a tenth of the requests, and after all."""
    process, found = psutil.Process(pid), []
    for index in range(1, REQUESTS + 1):
        client.post("/v1/generate", json=BODY).raise_for_status()
        if index in (REQUESTS // 10, REQUESTS // 2, REQUESTS):
            found.append((f"memory after {index} requests", f"{process.memory_info().rss / 1e6:.0f} MB"))
            print(*found[-1], file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
