"""What other libraries are told before they are imported, and what that leaves in the environment."""

from __future__ import annotations

import os
import sys

import pytest

from sao_onnx.runtime.environment import variables_unless_set
from tests.processes import COMMAND, succeed

VARIABLE = "ORT_DISABLE_TELEMETRY"

SCRIPT = """
import os, sys
if sys.argv[1] == "application first":
    import onnxruntime
before = dict(os.environ)
from sao_onnx.runtime import sessions
assert dict(os.environ) == before
print(sessions.runtime()["telemetry"])
"""


def _environment(value):
    environment = {name: text for name, text in os.environ.items() if name != VARIABLE}
    # Whatever is asked for here, ONNX Runtime sends nothing from a build service.
    environment["CI"] = "1"
    return environment if value is None else environment | {VARIABLE: value}


@pytest.mark.parametrize(
    ("first", "value", "telemetry"),
    [
        ("sao_onnx first", None, "off"),
        ("sao_onnx first", " ", "off"),
        ("sao_onnx first", "TRUE", "off"),
        ("sao_onnx first", "0", "not turned off: ORT_DISABLE_TELEMETRY is '0'; unset it, or set it to 1"),
        (
            "application first",
            None,
            "not turned off: onnxruntime was imported before sao_onnx; set ORT_DISABLE_TELEMETRY=1 before it is imported",
        ),
        ("application first", "1", "off"),
    ],
)
def test_onnx_runtime(first, value, telemetry):
    assert succeed([sys.executable, "-c", SCRIPT, first], env=_environment(value)) == f"{telemetry}\n"


def test_doctor_tells():
    assert "\ntelemetry     off\n" in succeed([COMMAND, "doctor"], env=_environment(None))
    assert "\ntelemetry     not turned off: ORT_DISABLE_TELEMETRY is 'no'" in succeed(
        [COMMAND, "doctor"], env=_environment("no")
    )


def test_the_converters_libraries():
    script = (
        "import os; names = ('ORT_DISABLE_TELEMETRY', 'HF_HUB_DISABLE_TELEMETRY', 'TORCHINDUCTOR_CACHE_DIR')\n"
        "before = [os.environ.get(name) for name in names]\n"
        "import sao_onnx_convert\n"
        "assert [os.environ.get(name) for name in names] == before\n"
        "import huggingface_hub.constants, transformers.utils.hub\n"
        "assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY\n"
        "print(transformers.utils.hub.http_user_agent())"
    )
    environment = _environment(None)
    for name in ("HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        environment.pop(name, None)
    assert "telemetry/off" in succeed([sys.executable, "-c", script], env=environment)


def test_variables_unless_set(monkeypatch):
    monkeypatch.setenv("SET", "mine")
    monkeypatch.setenv("BLANK", "")
    monkeypatch.delenv("ABSENT", raising=False)
    before = dict(os.environ)
    with variables_unless_set({"SET": "1", "BLANK": "2", "ABSENT": "3"}):
        assert [os.environ[name] for name in ("SET", "BLANK", "ABSENT")] == ["mine", "2", "3"]
        os.environ["ABSENT"] = "4"
    assert dict(os.environ) == before
