"""The engine in TypeScript: its own tests, and its page in a real browser."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
from tokenizers import Tokenizer

import sao_onnx
from bench.web import ARGUMENTS, CHROMIUM, SEED, SITE, make, served
from tests.conftest import LARGER, ROOT
from tests.processes import GUARD, run, succeed

WEB = ROOT / "engine" / "web"
OLDEST = 20
"""Version of Node that the package asks for."""

PATIENCE = 45
"""Seconds that the packages may take to come, before the tests are skipped."""


@pytest.fixture(scope="module")
def node():
    """Node, with the packages in place."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        pytest.skip("Node is not installed")
    version = succeed([found, "--version"])
    if int(version.removeprefix("v").split(".")[0]) < OLDEST:
        pytest.skip(f"Node is {version.strip()}, expected {OLDEST} or newer")
    if not (WEB / "node_modules" / "typescript").is_dir():
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
        try:
            done = subprocess.run(command, cwd=WEB, capture_output=True, timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip("the npm registry is too slow")
        if done.returncode:
            pytest.skip("the packages cannot be fetched from the npm registry")
    return found


def test_the_package_has_the_version_of_the_engine():
    package = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    lock = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8"))
    assert package["version"] == lock["version"] == lock["packages"][""]["version"] == sao_onnx.__version__


def test_the_licence_is_that_of_the_project():
    assert (WEB / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.fixture(scope="module")
def built(node):
    succeed([node, WEB / "node_modules" / "typescript" / "bin" / "tsc", "--project", WEB / "tsconfig.json"])
    return node


def test_the_tests_in_typescript(built):
    tests = sorted((WEB / "dist" / "test").glob("*.test.js"))
    done = run([built, "--test", "--test-reporter=tap", *tests], cwd=WEB)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed is not None, done.stdout
    assert int(passed[1]) >= 15


def prompts():
    """Words, signs and white space of all kinds, in every order; and every character of the first planes' busy parts."""
    draw = random.Random(1)
    words = (
        """short kick drum 128 BPM <pad> </s> <unk> Σ ΟΔΥΣΣΕΥΣ İ ﬁ ½ ① Ａ ß 日本語 🎵 👩\u200d👧 e\u0301 é ▁ ‚ … {2,} ,., '"""
    )
    parts = words.split(" ")
    parts += [" ", "  ", "   ", "\t", "\n", "\xa0", "\x85", "\ufeff", "\u200b", "\u2028", "\u3000", "\x00", "\x1c"]
    mixed = ["".join(draw.choices([*parts, " "], k=draw.randint(0, 14))) for _ in range(1000)]
    ranges = [*range(0x3400), *range(0xF900, 0x10000), *range(0x1D400, 0x1D500), *range(0x1F100, 0x1F260)]
    # NFKC of the library in Rust is older than Unicode 12.
    return mixed + [f"a{chr(code)}b {chr(code)}" for code in ranges if code != 0x1F16C]


@pytest.mark.parametrize(
    ("path", "most"),
    [
        (ROOT / "engine" / "sao_onnx" / "bundles" / "sao-tiny" / "tokenizer.json", 32),
        (ROOT / "models" / "miniature" / "bundle" / "tokenizer.json", 64),
        # With the table of characters that T5's has.
        (LARGER / "t5-base" / "tokenizer.json", 64),
    ],
    ids=["sao-tiny", "miniature", "larger"],
)
def test_tokens(built, path, most):
    if not path.exists():
        pytest.skip(f"there is no {path}")
    asked = {"tokenizer": str(path), "maxLength": most, "prompts": prompts()}
    found = json.loads(succeed([built, WEB / "dist" / "test" / "tokens.js"], input=json.dumps(asked)))
    library = Tokenizer.from_file(str(path))
    library.no_padding()
    library.enable_truncation(most)
    expected = [encoding.ids for encoding in library.encode_batch(asked["prompts"])]
    assert not [case for case in zip(asked["prompts"], found, expected, strict=True) if case[1] != case[2]][:5]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(node):
    succeed([node, WEB / "page" / "build.mjs"], cwd=WEB)
    return SITE


@pytest.mark.parametrize(("isolated", "scheme"), [(False, "light"), (True, "dark")], ids=["one thread", "threads"])
def test_the_page(browser, site, isolated, scheme, tmp_path):
    """A clip in a browser is the one that the Python engine makes, and nobody but the page's own host is asked."""
    from tests.serve.test_page import axe

    with served(site, isolated=isolated) as (address, asked):
        page = browser.new_page(color_scheme=scheme, viewport={"width": 360, "height": 700})
        page.set_default_timeout(GUARD * 1000)
        said, requested = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(address)
        clip = make(page, 1, seconds=0.2, steps=1)
        threads = re.search(r"with (\d+) thread", clip.inner_text())
        assert threads is not None
        assert (int(threads[1]) > 1) == (isolated and page.evaluate("() => navigator.hardwareConcurrency") > 1)
        with page.expect_download() as waited:
            clip.get_by_role("link", name="Download").click()
        assert waited.value.suggested_filename == f"sao-tiny-{SEED}.wav"
        waited.value.save_as(tmp_path / "clip.wav")
        page.wait_for_function("() => document.querySelector('audio').duration > 0.19")
        assert all(url.startswith((address, f"blob:{address}", "data:")) for url in requested)
        assert asked
        assert not said
        assert page.evaluate("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        # The checker is a script that the page itself would refuse.
        page.evaluate(axe())
        barriers = page.evaluate("() => axe.run()")["violations"]
        assert not [(each["id"], each["nodes"][0]["html"]) for each in barriers]
        page.close()
    found, rate = soundfile.read(tmp_path / "clip.wav", dtype="float32")
    with sao_onnx.load(threads=1, tuned=False) as engine:
        made = engine.generate("short kick drum", seed=SEED, seconds=0.2, steps=1).encoded(metadata=False)
    expected, expected_rate = soundfile.read(io.BytesIO(made), dtype="float32")
    assert (rate, found.shape) == (expected_rate, expected.shape)
    noise = np.mean((found - expected) ** 2)
    assert 10 * np.log10(np.mean(expected**2) / noise) > 25


def test_the_page_keeps_to_itself(browser, site):
    """Neither the page nor its worker may reach another host, whatever headers its own host sends."""
    with served(site, isolated=False) as (address, _), served(site, isolated=False) as (other, asked):
        page = browser.new_page()
        page.goto(address)
        attempt = """url => fetch(url, {mode: 'no-cors'}).then(() => 'reached', () => 'refused')"""
        assert page.evaluate(attempt, other) == "refused"
        worker = page.workers[0]
        assert worker.evaluate(attempt, other) == "refused"
        assert not asked
        page.close()


def test_a_clip_that_is_stopped(browser, site):
    with served(site, isolated=False) as (address, _):
        page = browser.new_page()
        page.set_default_timeout(GUARD * 1000)
        page.goto(address)
        page.fill("#steps", "100")
        page.click("#make")
        page.wait_for_function("() => document.querySelector('#status').textContent === 'Sampling'")
        page.click("#stop")
        page.wait_for_function("() => document.querySelector('#status').textContent === 'Stopped'")
        assert page.locator("#clips li").count() == 0
        assert page.locator("#make").is_enabled()
        page.close()


def test_the_example_for_node(built, tmp_path):
    """What the page about Node prints, with the bundle of the package."""
    [example] = re.findall(r"^```js\n(.*?)^```$", (ROOT / "docs/embedding/node.md").read_text(encoding="utf-8"), re.S | re.M)
    (tmp_path / "make.mjs").write_text(example, encoding="utf-8")
    modules = tmp_path / "node_modules"
    modules.mkdir()
    (modules / "sao-onnx-web").symlink_to(WEB, target_is_directory=True)
    (modules / "onnxruntime-web").symlink_to(WEB / "node_modules" / "onnxruntime-web", target_is_directory=True)
    bundle = ROOT / "models" / "miniature" / "bundle"
    told = succeed([built, "make.mjs", bundle, "rain", "rain.wav"], cwd=tmp_path)
    assert re.findall(r"^step (\d+) of (\d+)$", told, re.M)[-1] == ("8", "8")
    assert soundfile.info(tmp_path / "rain.wav").frames == 44100
