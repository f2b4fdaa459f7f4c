"""The package as it is imported: few names, nothing printed, old names for one version."""

from __future__ import annotations

import importlib
import inspect
import logging
import sys

import pytest

import sao_onnx
from sao_onnx.errors import SaoOnnxError
from tests.processes import run, succeed

PUBLIC = {
    "Clip",
    "Engine",
    "Normalization",
    "Options",
    "Precision",
    "Request",
    "SamplerName",
    "SaoOnnxError",
    "SaoOnnxWarning",
    "load",
}
"""Here as well, so that a change is seen where it is reviewed."""

MOVED = {
    "AudioFileError": "errors.AudioFileError",
    "Bundle": "bundle.bundle.Bundle",
    "BundleError": "errors.BundleError",
    "BundleNotFoundError": "errors.BundleNotFoundError",
    "Conditioned": "events.Conditioned",
    "Decoded": "events.Decoded",
    "Error": "errors.SaoOnnxError",
    "Event": "events.Event",
    "Finished": "events.Finished",
    "Manifest": "bundle.manifest.Manifest",
    "MissingExtraError": "errors.MissingExtraError",
    "MissingRuntimeError": "errors.MissingRuntimeError",
    "NotEnoughMemoryError": "errors.NotEnoughMemoryError",
    "NumericalError": "errors.NumericalError",
    "OutputExistsError": "errors.OutputExistsError",
    "ProviderError": "errors.ProviderError",
    "Recipe": "provenance.Provenance",
    "RequestError": "errors.RequestError",
    "Sampled": "events.Sampled",
    "Timings": "clip.Timings",
    "Tuning": "runtime.tuning.Tuning",
    "open_bundle": "bundle.bundle.open_bundle",
    "plot": "audio.picture.plot",
    "recipe_of": "provenance.read_provenance",
}
"""All other names of 0.1.0, and where they are now."""


def test_public_names():
    assert set(sao_onnx.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(sao_onnx, name) is not None
    code = "before = set(globals()); from sao_onnx import *; print(*sorted(set(globals()) - before - {'before'}))"
    assert set(succeed([sys.executable, "-c", code]).split()) == PUBLIC
    with pytest.raises(AttributeError, match="module 'sao_onnx' has no attribute 'nothing'"):
        sao_onnx.nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("old", MOVED)
def test_names_of_the_former_release(old):
    with pytest.warns(DeprecationWarning, match=rf"sao_onnx\.{old} is now sao_onnx\.{MOVED[old]}$") as found:
        value = getattr(sao_onnx, old)
    module, _, name = MOVED[old].rpartition(".")
    assert value is getattr(importlib.import_module(f"sao_onnx.{module}"), name)
    # About the line that uses it, where Python shows it by default.
    assert [warning.filename for warning in found] == [__file__]
    assert old not in dir(sao_onnx)


def test_methods_of_the_former_release(engine, miniature):
    clip = engine.generate("rain", seconds=0.1, steps=1)
    with pytest.warns(DeprecationWarning, match=r"Clip\.recipe is now Clip\.provenance"):
        assert clip.recipe is clip.provenance
    with pytest.warns(DeprecationWarning, match=r"Engine\.close is now Engine\.unload"):
        sao_onnx.load(miniature).close()


def test_every_error_has_the_one_base():
    errors = importlib.import_module("sao_onnx.errors")
    found = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, Exception)]
    for error in found:
        if not issubclass(error, Warning):
            assert issubclass(error, SaoOnnxError), error
            # Whoever does not know the package catches the built-in one that fits.
            builtin = {base for base in error.__mro__ if base.__module__ == "builtins"} - {Exception, BaseException, object}
            assert builtin or error is SaoOnnxError, error


def test_importing_prints_nothing_and_sets_up_no_logging():
    code = (
        "import logging, warnings\n"
        "before = (list(logging.root.handlers), logging.root.level, list(warnings.filters))\n"
        "import sao_onnx\n"
        "assert before == (logging.root.handlers, logging.root.level, warnings.filters)\n"
        "print([type(handler).__name__ for handler in logging.getLogger('sao_onnx').handlers], end='')\n"
    )
    done = run([sys.executable, "-c", code])
    assert (done.returncode, done.stdout, done.stderr) == (0, "['NullHandler']", "")


def test_a_generation_prints_nothing(miniature):
    code = (
        "import sys, sao_onnx\n"
        "clip = sao_onnx.load(sys.argv[1]).generate('rain', seconds=0.1, steps=1)\n"
        "assert clip.samples.size\n"
    )
    done = run([sys.executable, "-c", code, miniature])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_logger_is_silent_until_it_is_asked():
    assert [type(handler) for handler in logging.getLogger("sao_onnx").handlers] == [logging.NullHandler]
    assert logging.getLogger("sao_onnx").level == logging.NOTSET
