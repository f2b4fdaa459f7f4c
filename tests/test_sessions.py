from __future__ import annotations

import sys

import numpy as np
import pytest

import sao_onnx
from sao_onnx.errors import NotEnoughMemoryError, NumericalError, ProviderError, RequestError
from sao_onnx.runtime.onnx_runtime import ort
from sao_onnx.runtime.processor import available_processors
from sao_onnx.runtime.sessions import GraphSession, SessionFactory
from tests.processes import succeed


def _dit(engine, factory):
    graph = engine.manifest.graph("dit", "fp32")
    return GraphSession(factory, engine.bundle.path(graph.path), graph)


def test_threads(processors):
    processors(4)
    assert SessionFactory(3).threads == 3
    assert SessionFactory().threads == available_processors() == 4
    with pytest.raises(RequestError, match="threads is 0, expected at least 1") as caught:
        SessionFactory(0)
    assert not isinstance(caught.value, ProviderError)


def test_an_absent_provider_falls_back_with_a_warning(miniature):
    with pytest.warns(sao_onnx.SaoOnnxWarning, match="no XnnpackExecutionProvider.*using CPUExecutionProvider"):
        engine = sao_onnx.load(miniature, providers=["XnnpackExecutionProvider", "CPUExecutionProvider"])
    assert engine.generate("kick", seconds=0.1, steps=1, seed=1).samples.size


def test_options_reach_onnx_runtime(engine, processors):
    processors(2)
    factory = SessionFactory(2, options={"session.intra_op.allow_spinning": "0"})
    session = factory.session(engine.bundle.path("fp32/dit.onnx"))
    assert session.get_session_options().get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert session.get_session_options().intra_op_num_threads == 2
    assert session.get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(ProviderError, match="refuses the session options"):
        SessionFactory(options={"x" * 5000: "1"}).session(engine.bundle.path("fp32/dit.onnx"))


def test_what_is_opened_is_logged(engine, caplog):
    path = engine.bundle.path("fp32/dit.onnx")
    with caplog.at_level("DEBUG", logger="sao_onnx"):
        SessionFactory(1).session(path)
    assert any(str(path) in record.getMessage() for record in caplog.records)
    assert all(record.name.startswith("sao_onnx.") for record in caplog.records)


def test_values_that_are_not_finite_are_caught(engine):
    dit = _dit(engine, SessionFactory(1))
    inputs = {
        "latents": np.full((1, 8, 4), np.nan, np.float32),
        "times": np.ones(1, np.float32),
        "keys": np.zeros((2, 1, 65, 64), np.float32),
        "values": np.zeros((2, 1, 65, 64), np.float32),
        "global_condition": np.zeros((1, 32), np.float32),
    }
    with pytest.raises(NumericalError, match="dit returned NaN or infinite values in velocity"):
        dit.run(**inputs)
    assert issubclass(NumericalError, ArithmeticError)


@pytest.mark.parametrize(("size", "remedy"), [(2**31 - 1, "64-bit Raspberry Pi OS"), (2**63 - 1, "pip install onnxruntime")])
def test_without_onnx_runtime(size, remedy):
    script = (
        f"import sys; sys.modules['onnxruntime'] = None; sys.maxsize = {size}\n"
        "import sao_onnx, sao_onnx.errors\n"
        "try: sao_onnx.load\n"
        "except sao_onnx.errors.MissingRuntimeError as error: print(error)"
    )
    assert remedy in succeed([sys.executable, "-c", script])


def test_out_of_memory(engine, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc")

    factory = SessionFactory(1)
    monkeypatch.setattr(ort, "InferenceSession", type("Session", (ort.InferenceSession,), {"run": fail}))
    dit = _dit(engine, factory)
    with pytest.raises(NotEnoughMemoryError, match="to run dit"):
        dit.run()
    monkeypatch.setattr(ort, "InferenceSession", fail)
    with pytest.raises(MemoryError, match="to load"):
        _dit(engine, factory)
