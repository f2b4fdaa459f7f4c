"""What tests ask a server for, and how."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import soundfile

QUICK = {"prompt": "kick drum", "seconds": 0.2, "steps": 2, "window_seconds": 0.2}


LONG = {"prompt": "rain", "seconds": 100, "steps": 200}
"""More than what any test waits for."""


def samples(data: bytes) -> np.ndarray[Any, Any]:
    found, _ = soundfile.read(io.BytesIO(data), dtype="int16")
    return found


def server_sent(client, id: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    with client.stream("GET", f"/v1/jobs/{id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        event = ""
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "data":
                found.append((event, json.loads(value)))
    return found


def until_ended(client, id: str) -> dict[str, Any]:
    return server_sent(client, id)[-1][1]
