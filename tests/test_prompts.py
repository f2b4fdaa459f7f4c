"""Prompts that a model brings: read as what anybody may have written, and drawn."""

from __future__ import annotations

import json

import pytest

from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.bundle.prompts import OWN, PROMPTS, bundle_prompts, drawn_prompt, parse_prompts
from sao_onnx.errors import BundleError
from sao_onnx.provenance import read_provenance
from tests.conftest import ROOT
from tests.numbered import describe_files

DICE = {"version": 1, "dice": {"generic": ["warm pad"], "drums": ["acid  kick\n loop", "snare"], "instrumental": []}}
BANK = {"prompt_bank": {"generic": [f"prompt {i}" for i in range(50)]}, "terms": {"top_unigrams": [["acid", 9]]}}


@pytest.fixture
def prompted(bundle):
    """A bundle with prompts."""

    def write(text):
        (bundle / PROMPTS).write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
        manifest = json.loads((bundle / "manifest.json").read_text())
        manifest["files"] = [file for file in manifest["files"] if file["path"] != PROMPTS]
        manifest["files"].append({"path": PROMPTS, "role": "prompts", "size": 0, "sha256": ""})
        describe_files(bundle, manifest)
        return open_bundle(bundle)

    return write


def test_the_form_that_the_documentation_shows():
    text = (ROOT / "docs" / "fine-tunes.md").read_text(encoding="utf-8")
    [shown] = [block.partition("```")[0] for block in text.split("```json\n")[1:] if '"dice"' in block]
    assert parse_prompts(shown)["pads"] == ("warm analog pad, slow",)


def test_the_forms_of_gary4juce():
    assert parse_prompts(json.dumps(DICE)) == {"generic": ("warm pad",), "drums": ("acid kick loop", "snare")}
    assert len(parse_prompts(json.dumps(BANK))["generic"]) == 50
    # The later form comes first where there are both.
    assert list(parse_prompts(json.dumps({"dice": {"a": ["b"]}, "prompt_bank": {"c": ["d"]}}))) == ["c"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "Expecting value"),
        ("[" * 99 + "]" * 99, "nested"),
        ("[]", "no lists of prompts under 'prompt_bank' or 'dice'"),
        ("{}", "no lists of prompts"),
        ('{"dice": ["rain"]}', "no lists of prompts"),
        ('{"dice": {"generic": []}}', "found 0 prompts, expected 1 to 20,000"),
        ('{"dice": {"generic": "rain"}}', "the group 'generic' is no list of texts"),
        ('{"dice": {"generic": [1]}}', "is no list of texts"),
        ('{"dice": {"generic": [" "]}}', "is empty, longer than"),
        ('{"dice": {"generic": ["\\u001b[31m"]}}', "or not printable"),
        ('{"dice": {"generic": ["\\ud800"]}}', "half a character"),
        (json.dumps({"dice": {"generic": ["x" * 1001]}}), "longer than 1,000 characters"),
        (json.dumps({"dice": {"generic": ["x"] * 20_001}}), "found 20001 prompts"),
    ],
)
def test_what_are_no_prompts(prompted, written, message):
    with pytest.raises(ValueError, match=message):
        parse_prompts(written)
    with pytest.raises(BundleError, match=f"prompts.json cannot be read: .*{message}"):
        bundle_prompts(prompted(written))


def test_prompts_are_drawn_by_the_seed(prompted, miniature):
    bundle = prompted(BANK)
    drawn = [drawn_prompt(bundle, seed) for seed in range(20)]
    assert len(set(drawn)) > 10
    # No release may draw others.
    assert drawn[:3] == ["prompt 5", "prompt 15", "prompt 11"]
    assert drawn_prompt(bundle, 2) == drawn[2]
    assert drawn_prompt(open_bundle(miniature), 7) in OWN[""]


def test_prompts_that_were_changed(prompted):
    bundle = prompted(DICE)
    (bundle.folder / PROMPTS).write_text(json.dumps(DICE).replace("acid", "good"))
    with pytest.raises(BundleError, match=r"prompts\.json is damaged"):
        drawn_prompt(bundle, 1)


def test_surprise(prompted, command, tmp_path):
    bundle = prompted(DICE)
    quick = ["-m", bundle.folder, "--steps", 1, "--seconds", 0.1, "--threads", 1, "--surprise"]
    done = command("gen", *quick, "--seed", 3, "-o", "a.wav")
    assert done.returncode == 0, done.stderr
    prompt = read_provenance(tmp_path / "a.wav").prompt
    assert prompt == drawn_prompt(bundle, 3)
    assert f"the prompt is: {prompt}\n" in done.stderr
    # Without a seed, the one that is written down makes prompt and clip again.
    done = command("gen", *quick, "-o", "b.wav")
    record = read_provenance(tmp_path / "b.wav")
    assert record.prompt == drawn_prompt(bundle, record.seed)
    for other in (["rain"], ["--from", "a.wav"]):
        assert command("gen", *quick, *other).returncode == 2
    shown = command("inspect", bundle.folder).stdout
    assert "prompts     1 of generic, 2 of drums" in shown
    assert "acid kick loop" in shown
    assert "licence     Random weights made by" in shown


def test_inspect_hides_nothing_else(prompted, command):
    shown = command("inspect", prompted("no JSON").folder)
    assert shown.returncode == 0
    assert "prompts     cannot be used: " in shown.stdout
    assert "sampling    rf_denoiser" in shown.stdout


def test_a_bundle_without_prompts_is_what_it_was(miniature):
    assert open_bundle(miniature).fingerprint == "21ce0b65d65e"
