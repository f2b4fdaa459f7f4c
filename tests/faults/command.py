"""The command `sao-onnx`: in this process, in a fork of it, or as a program."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from tests.faults.outcome import Outcome, attempt

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Patience:
    """How long commands may take to end.

    Attributes:
        seconds: After them, a command hangs on a machine that does nothing else.
    """

    seconds = 10.0

    @classmethod
    def now(cls) -> float:
        """The same on this machine: as much longer as more programs want to run than there are processors."""
        return cls.seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        code: Exit code; minus the number of the signal that killed it; None if it had to be killed because it did not end.
        out: What it wrote to stdout.
        err: And to stderr.
    """

    code: int | None
    out: str
    err: str


class _Kept(io.BytesIO):
    """Bytes that can be read when the stream over them is gone."""

    def close(self) -> None:
        pass


def in_process(arguments: list[str], cwd: Path, stdin: bytes = b"") -> Ended | Outcome:
    """Run a command in this process; an error that it does not catch is the outcome."""
    written = [_Kept(), _Kept()]
    out, err = (io.TextIOWrapper(stream, "utf-8", errors="backslashreplace") for stream in written)
    code = 0
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin))
    os.chdir(cwd)

    def call() -> None:
        nonlocal code
        try:
            main(arguments)()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1

    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            outcome = attempt(call)
            sys.stdout.flush()
    finally:
        sys.stdin = before
    out.flush()
    err.flush()
    texts = [stream.getvalue().decode("utf-8", "replace") for stream in written]
    return outcome if isinstance(outcome, Outcome) else Ended(code, *texts)


class Fork:
    """A command in a fork of this process, which has imported what takes long to import and has no threads."""

    def __init__(self, folder: Path, call: Callable[[], object], before: Callable[[], None] | None = None) -> None:
        self._texts = [folder.parent / f"{folder.name}.{name}" for name in ("out", "err")]
        self.process = os.fork()
        if self.process == 0:
            self._child(folder, call, before)

    def _child(self, folder: Path, call: Callable[[], object], before: Callable[[], None] | None) -> NoReturn:
        """As the interpreter begins and ends a program."""
        code = 1
        try:
            os.setsid()
            os.chdir(folder)
            for number, path in enumerate(self._texts, start=1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
            sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
            for number in SIGNALS:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            os.environ["XDG_STATE_HOME"] = str(folder.parent / "state")  # So that it knows nothing of earlier ones.
            if before is not None:
                before()
            call()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except KeyboardInterrupt:
            traceback.print_exc()
            code = 130
        except BaseException:  # noqa: BLE001  As the interpreter does.
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            os._exit(code)

    def send(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        os.kill(self.process, number)  # Not yet waited for, so the number is still its own.

    def end(self) -> Ended:
        """Wait for its end."""
        deadline = time.monotonic() + Patience.now()
        pause = 0.001
        while True:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                code: int | None = os.waitstatus_to_exitcode(status)
                break
            if time.monotonic() > deadline:
                os.kill(self.process, signal.SIGKILL)
                os.waitpid(self.process, 0)
                code = None
                break
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)
        texts = [path.read_text(errors="replace") if path.exists() else "" for path in self._texts]
        for path in self._texts:
            path.unlink(missing_ok=True)
        return Ended(code, *texts)


def main(arguments: list[str]) -> Callable[[], Any]:
    """The command as a function for a fork."""

    def call() -> None:
        from sao_onnx import cli

        sys.argv = ["sao-onnx", *arguments]
        cli.main()

    return call


def program(arguments: list[str]) -> list[str]:
    """The command as a program."""
    return [sys.executable, "-c", "from sao_onnx.cli import main; main()", *arguments]


def ready_to_fork() -> None:
    """Import what a command imports, so that forks need not."""
    import soundfile  # noqa: F401
    import soxr  # noqa: F401

    import sao_onnx.cli
    import sao_onnx.engine
    import sao_onnx.running.loading
    import sao_onnx.runtime.memory
    import sao_onnx.runtime.sessions
    import sao_onnx.stages.tokenizer  # noqa: F401


def said(ended: Ended) -> Outcome | None:
    """The outcome of a command that did not end, or that ended with a traceback; None of any other."""
    if ended.code is None:
        return Outcome("hang", "no end", ended.err)
    for mark in ("Traceback (most recent call last)", "Exception ignored", "Fatal Python error"):
        if mark in ended.err:
            last = [line for line in ended.err.splitlines() if line.strip()][-1]
            return Outcome("untyped", f"{mark.split(' (')[0]}: {last.partition(':')[0][:80]}", ended.err)
    return None
