"""The page in a real browser."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.processes import GUARD, run
from tests.serve.conftest import address_of, serving

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--no-first-run", "--autoplay-policy=no-user-gesture-required", "--disable-dev-shm-usage"),
]
AXE = "axe-core@4.14.1"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, address, **options):
    """The page, which must say nothing on the console."""
    context = browser.new_context(**options)
    context.set_default_timeout(GUARD * 1000)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    yield page
    context.close()
    # The browser itself says that an answer was a refusal.
    assert not [text for text in said if "status of 422" not in text and "status of 401" not in text]


@pytest.fixture
def page(browser, address, request):
    with opened(browser, address, **getattr(request, "param", {})) as page:
        page.wait_for_selector("#options details")
        yield page


@pytest.fixture(scope="module")
def locked(model, tmp_path_factory):
    """A server with a key, `secret`."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "key").write_text("secret")
    with serving(folder, "--model", model, "--key-file", "key") as process:
        yield address_of(process, folder)


def ask(page, prompt="short kick drum", steps=2, seconds=1, **fields):
    page.fill("#prompt", prompt)
    page.fill("#seconds", str(seconds))
    page.locator("#option-steps").evaluate("(field, steps) => { field.value = steps; }", str(steps))
    for id, value in fields.items():
        page.fill(f"#{id}", str(value))
    page.click("#make")


def done(page, count=1):
    page.wait_for_function("count => document.querySelectorAll('li[data-done]').length >= count", arg=count)
    return page.locator("li[data-done]").first


def test_a_clip_from_words_to_a_file(page, tmp_path):
    ask(page, steps=40, seed=5)
    # Progress is seen before the clip.
    page.wait_for_function("() => document.querySelector('#clips progress')?.value > 0")
    clip = done(page)
    assert "seed 5" in clip.inner_text()
    audio = clip.locator("audio")
    clip.get_by_label("Loop").check()
    assert audio.evaluate("audio => audio.loop") is True
    clip.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.querySelector('li[data-done] audio').currentTime > 0.1")
    clip.get_by_role("button", name="Pause").click()
    clip.locator("canvas").scroll_into_view_if_needed()
    box = clip.locator("canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function("() => Math.abs(document.querySelector('li[data-done] audio').currentTime - 0.5) < 0.05")
    for name, begins in (("wav", b"RIFF"), ("wav, 24 bits", b"RIFF"), ("flac", b"fLaC")):
        format = name.partition(",")[0]
        with page.expect_download() as waited:
            clip.get_by_role("button", name=name, exact=True).click()
        assert waited.value.suggested_filename == f"sao-5.{format}"
        waited.value.save_as(tmp_path / format)
        assert (tmp_path / format).read_bytes().startswith(begins)


def test_a_part_is_made_anew_by_dragging(page):
    ask(page, seconds=2)
    done(page).get_by_role("button", name="Start from it").click()
    wave = page.locator("#recorded-wave")
    wave.wait_for(state="visible")
    wave.scroll_into_view_if_needed()
    box = wave.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20, steps=3)
    page.mouse.up()
    assert (float(page.input_value("#from")), float(page.input_value("#to"))) == pytest.approx((0.5, 1.0), abs=0.03)
    with page.expect_request("**/v1/jobs") as waited:
        page.click("#make")
    assert "multipart/form-data" in waited.value.headers["content-type"]
    assert waited.value.response().status == 202
    done(page, 2)


def test_a_key_is_asked_for_until_it_is_right(browser, locked):
    with opened(browser, locked) as page:
        page.wait_for_selector("#key-dialog[open]")
        assert page.inner_text("#key-problem") == ""
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('#key-problem').textContent.includes('not the key')")
        page.fill("#key", "secret")
        page.get_by_role("button", name="Use it").click()
        page.wait_for_selector("#options details")
        ask(page, variations=2)
        done(page, 2)
        # It is known until the browser is closed, and nothing of it is in the address.
        page.reload()
        done(page, 2)
        assert "secret" not in page.url
        # A key that has changed is asked for once, however many calls are refused.
        page.evaluate("() => { key = 'old'; }")
        page.evaluate("() => { window.asked = Promise.all([call('/v1/models'), call('/v1/options'), call('/v1/models')]); }")
        page.wait_for_selector("#key-dialog[open]")
        page.fill("#key", "secret")
        page.keyboard.press("Enter")
        assert page.evaluate("async () => (await window.asked).map((answer) => answer.status)") == [200, 200, 200]
        assert not page.locator("#key-dialog").is_visible()


def test_a_key_need_not_be_given(browser, locked):
    with opened(browser, locked) as page:
        page.wait_for_selector("#key-dialog[open]")
        page.keyboard.press("Escape")
        page.wait_for_function("() => document.querySelector('#problem').textContent.includes('asks for a key')")
        assert not page.locator("#key-dialog").is_visible()


@pytest.mark.parametrize("page", [{"viewport": {"width": 360, "height": 700}}], indirect=True)
def test_a_file_is_dropped(page):
    stream = io.BytesIO()
    soundfile.write(stream, np.sin(np.arange(22_050) / 10), 22_050, format="WAV")

    def drop(name: str, data: bytes) -> None:
        made = """([name, data]) => {
            const all = new DataTransfer();
            all.items.add(new File([new Uint8Array(data)], name));
            return all;
        }"""
        transfer = page.evaluate_handle(made, [name, list(data)])
        page.dispatch_event("#recording", "dragover", {"dataTransfer": transfer})
        assert "over" in (page.get_attribute("#recording", "class") or "")
        page.dispatch_event("#recording", "drop", {"dataTransfer": transfer})
        assert "over" not in (page.get_attribute("#recording", "class") or "")

    drop("notes.txt", b"no audio")
    page.wait_for_function("() => document.querySelector('#problem').textContent.includes('notes.txt cannot be read')")
    assert not page.locator("#recorded").is_visible()
    drop("tone.wav", stream.getvalue())
    page.wait_for_selector("#recorded-wave")
    assert page.inner_text("#problem") == ""
    # What is to be made anew can be said by keyboard, too.
    page.focus("#from")
    page.keyboard.type("0.25")
    page.keyboard.press("Tab")
    page.keyboard.type("0.75")
    with page.expect_response("**/v1/jobs") as waited:
        ask(page, prompt="rain", seconds="")
    assert waited.value.json()["options"]["regenerate"] == [[0.25, 0.75]]
    done(page)
    page.get_by_role("button", name="Leave it out").click()
    assert not page.locator("#recorded").is_visible()


def test_variations_stand_side_by_side_and_outlive_the_page(page):
    ask(page, seed=10, variations=2)
    done(page, 2)
    first, second = (page.locator("li[data-done]").nth(i) for i in (0, 1))
    assert first.inner_text() != second.inner_text()
    assert first.bounding_box()["y"] == second.bounding_box()["y"]
    page.reload()
    done(page, 2)


def test_with_the_keyboard_alone(page):
    page.keyboard.type("short kick drum")  # The first field has the focus.
    page.keyboard.press("Control+Enter")
    clip = done(page)
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.getAttribute('role') === 'slider'"):
            break
    page.keyboard.press("End")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.activeElement.getAttribute('aria-valuenow') === '0.10'")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Play"
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('li[data-done] audio').currentTime > 0.2")
    assert clip.locator("canvas").is_visible()


def test_a_refusal_is_told(page):
    page.locator("#option-bpm").evaluate("field => { field.value = 120; }")
    ask(page)
    page.wait_for_function("() => document.querySelector('#problem').textContent.includes('bars')")


def test_numbers_of_the_model(page):
    number = page.locator("#option-number-seconds_total")
    assert (number.get_attribute("min"), number.get_attribute("max")) == ("0", "256")
    number.evaluate("field => { field.value = 2; }")
    with page.expect_request("**/v1/jobs") as waited:
        ask(page)
    assert waited.value.post_data_json["numbers"] == {"seconds_total": 2}
    done(page)


@pytest.mark.parametrize("page", [{"viewport": {"width": 360, "height": 700}}], indirect=True)
def test_a_narrow_screen_is_wide_enough(page):
    ask(page)
    done(page).get_by_role("button", name="Start from it").click()
    page.locator("#recorded-wave").wait_for(state="visible")
    page.evaluate("() => document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert page.evaluate("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("page", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True)
def test_no_barriers(page, tmp_path_factory):
    ask(page)
    done(page).get_by_role("button", name="Start from it").click()
    page.locator("#recorded-wave").wait_for(state="visible")
    page.evaluate("() => document.querySelectorAll('details').forEach(details => { details.open = true; })")
    page.evaluate(axe())
    found = page.evaluate("() => axe.run()")
    assert not [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]]


def axe() -> str:
    """The checker of barriers, fetched from the npm registry once."""
    folder = Path(__file__).parents[2] / "scratch" / "axe"
    script = folder / "package" / "axe.min.js"
    if not script.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        fetched = run([npm, "pack", AXE, "--silent"], cwd=folder)
        if fetched.returncode:
            pytest.skip("axe-core cannot be fetched from the npm registry")
        shutil.unpack_archive(next(folder.glob("axe-core-*.tgz")), folder)
    return script.read_text(encoding="utf-8")
