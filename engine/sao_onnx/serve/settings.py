"""What a server is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limits:
    """The most that one request may ask for.

    Attributes:
        body: Bytes of a request with audio.
        json: Bytes of any other request.
        prompt: Characters of a prompt, and of a negative one.
        seconds: Of a clip, with what is added to a recording.
        steps: Of sampling.
        recording: Seconds of audio to start from.
        decoded: Bytes of its samples, 4 each.
    """

    body: int = 64_000_000
    json: int = 1_000_000
    prompt: int = 2_000
    seconds: float = 120.0
    steps: int = 200
    recording: float = 600.0
    decoded: int = 256_000_000


@dataclass(frozen=True)
class Settings:
    """How a server is run.

    Attributes:
        models: Names or folders of bundles; the first is used where a request names none.
        precision: Of all models; None for the preferred one of each.
        threads: Of all jobs together; None for every processor.
        jobs: Clips at the same time.
        queue: Clips that may wait.
        key: What every request must carry; "" for none.
        hosts: Names under which the server may be called, without ports; none for any name.
        addresses: Any address is such a name, too.
        origins: Web pages of other hosts that may call it.
        unload_after: Seconds without work after which the networks are let go; None for never.
        keep_seconds: How long a finished clip is kept.
        keep_bytes: How much all kept clips may take, and how much the recordings that wait.
        metrics: Whether there is `/metrics`.
        limits: The most that one request may ask for.
    """

    models: tuple[str, ...] = ()
    precision: str | None = None
    threads: int | None = None
    jobs: int = 1
    queue: int = 16
    key: str = ""
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    addresses: bool = False
    origins: tuple[str, ...] = ()
    unload_after: float | None = 600.0
    keep_seconds: float = 600.0
    keep_bytes: int = 256_000_000
    metrics: bool = False
    limits: Limits = field(default_factory=Limits)
