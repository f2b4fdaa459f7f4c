"""A cluster of Ray: found, used without a word of its own, and left again."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sao_onnx.errors import ClusterError, MissingExtraError, RequestError
from sao_onnx.runtime.environment import variables_unless_set

VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
"""For Ray where it is started here. It reports its use to its makers unless the first is 0; and then, where a cluster is
started, still that it does not report, to the address of the second: nobody's. The third keeps errors that it recovers from to
itself."""

PATIENCE, LONGER = 10.0, 30.0
"""Seconds in which a machine has to take a connection; and in which a cluster of Ray has to answer a program that asks it,
which takes some seconds to start."""

NO_SUCH_COMMAND = 2
"""What Ray's program returns where it cannot ask, as another release might."""

AUTO, LOCAL = "auto", "local"
"""Addresses: the cluster that RAY_ADDRESS names or that runs on this machine, or else one made here; and one made here."""

ADDRESS = re.compile(r"\[?([^\s/@]+?)\]?:([0-9]{1,5})")


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster as long as the block lasts. Whatever was started for the block ends with it.

    Args:
        address: HOST:PORT of the head, `AUTO` or `LOCAL`.

    Raises:
        MissingExtraError: Ray is not installed.
        RequestError: The address is none of these.
        ClusterError: Nobody answers there, or another release of Ray or Python.
    """
    with variables_unless_set(VARIABLES):
        ray = _imported()
        if address == AUTO:
            address = os.environ.get("RAY_ADDRESS", "").strip() or AUTO
        if address not in (AUTO, LOCAL):
            _require_answer(address)
        with _own_signals(), _quiet():
            try:
                # Without an address, Ray looks for a cluster before it makes one, which is what AUTO means here.
                ray.init(
                    address=None if address == AUTO else address,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    **({"include_dashboard": False} if address == LOCAL else {}),
                )
            except Exception as error:
                raise ClusterError(f"Ray cannot be used ({address}): {first_line(error)}") from error
    try:
        with _quiet():
            yield ray
    finally:
        ray.shutdown()


def _imported() -> Any:
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] in {"ray", "pyarrow", "pandas"}:
            raise MissingExtraError("batch --ray", "Ray with its data library", "ray") from error
        raise
    return ray


def _require_answer(address: str) -> None:
    """Make sure of a cluster: Ray itself would try for minutes, and end this process."""
    found = ADDRESS.fullmatch(address)
    if found is None:
        hint = "; Ray Data does not work over ray://, so run this on a machine of the cluster" if "://" in address else ""
        raise RequestError(f"the address of Ray is {address[:80]!r}, expected HOST:PORT, {AUTO} or {LOCAL}{hint}")
    try:
        socket.create_connection((found[1], int(found[2])), timeout=PATIENCE).close()
        asked = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=LONGER, stdin=subprocess.DEVNULL, check=False)
        told = done.stderr.strip().splitlines() or ["it is not healthy"]
        problem = "" if done.returncode in (0, NO_SUCH_COMMAND) else told[-1]
    except subprocess.TimeoutExpired:
        problem = f"there is no answer within {LONGER:.0f} s"
    except (OSError, OverflowError) as error:
        problem = getattr(error, "strerror", None) or str(error)
    if problem:
        remedy = "is it running? `ray start --head` starts one, and prints its address"
        raise ClusterError(f"no cluster of Ray answers at {address} ({problem}); {remedy}")


def head(ray: Any) -> tuple[str, int]:
    """Host and port at which the head of the cluster takes connections."""
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host.strip("[]"), int(port)


def takes_connections(place: tuple[str, int]) -> bool:
    """Whether anybody does, at a host and port."""
    try:
        socket.create_connection(place, timeout=PATIENCE).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what this process does at SIGTERM, which Ray would replace."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Ray logs out of the terminal. It keeps its own log files."""
    handlers = [
        h for name in ("ray", "ray.data") for h in logging.getLogger(name).handlers if isinstance(h, logging.StreamHandler)
    ]
    before = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in zip(handlers, before, strict=True):
            handler.setLevel(level)


def first_line(error: Exception) -> str:
    """What an error of Ray says, without its traces."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def machines(ray: Any) -> list[Mapping[str, float]]:
    """What each machine has that can work: at least "CPU", and "memory" in bytes."""
    nodes = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return [resources for resources in nodes if resources.get("CPU", 0) >= 1]


def room(found: Sequence[Mapping[str, float]], threads: int, memory: int) -> int:
    """How many engines the machines can hold.

    Args:
        found: The machines.
        threads: Of each engine.
        memory: Of each engine, in bytes.

    Raises:
        ClusterError: None.
    """
    fitting = sum(int(min(each["CPU"] // threads, each.get("memory", math.inf) / memory)) for each in found)
    if not fitting:
        most = max(found, key=lambda each: (each["CPU"], each.get("memory", 0)), default={"CPU": 0.0})
        raise ClusterError(
            f"an engine takes {threads} processors and {memory / 1e6:.0f} MB, and the largest of the {len(found)} machines has "
            f"{most['CPU']:.0f} and {most.get('memory', 0) / 1e6:.0f} MB for Ray; choose fewer --threads, or add a machine"
        )
    return fitting
