"""The command's options and variables, without a server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from sao_onnx.cli import serve as serve_module
from sao_onnx.cli.commands import app
from sao_onnx.cli.results import USAGE_ERROR
from sao_onnx.cli.serve import hosts
from tests.conftest import ROOT
from tests.serve.conftest import serving  # noqa: F401  Skips where the server cannot run.

COMMAND = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
OPTIONS = {parameter.name: parameter for parameter in COMMAND.params if parameter.name != "help"}
LOCAL = ("localhost", "127.0.0.1", "[::1]")

VALUES: dict[str, list[str]] = {
    "model": ["one", "two"],
    "host": ["localhost"],
    "port": ["9000"],
    "queue": ["3"],
    "jobs": ["2"],
    "threads": ["3"],
    "precision": ["int8"],
    "key_file": ["key"],
    "allow_origin": ["https://one.example", "https://two.example"],
    "allow_host": ["one.example", "two.example"],
    "unload_after": ["5"],
    "keep": ["7"],
    "max_seconds": ["9"],
    "max_steps": ["11"],
    "metrics": ["1"],
    "insecure": ["true"],
}
"""A value of each option that is not its default; several where it may be repeated."""


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the command would serve: its settings, host and port."""
    found = []
    monkeypatch.chdir(tmp_path)
    Path("key").write_text("secret\n")
    monkeypatch.setattr(serve_module, "_run", lambda *what: found.append(what))

    def ask(*arguments: str):
        found.clear()
        app(["serve", *arguments], standalone_mode=False)
        return found[0]

    return ask


def flags(name: str) -> list[str]:
    flag = OPTIONS[name].opts[0]
    return [flag] if OPTIONS[name].is_flag else [part for value in VALUES[name] for part in (flag, value)]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_variable_does_what_its_option_does(asked, monkeypatch, name):
    variable = "SAO_ONNX_MODEL" if name == "model" else f"SAO_ONNX_SERVE_{name.upper()}"
    assert OPTIONS[name].envvar == variable
    # Beyond this machine, a server without a key or --insecure is refused.
    more = ["--host", "0.0.0.0"] if name == "insecure" else []
    expected = asked(*flags(name), *more)
    assert name == "insecure" or expected != asked()
    monkeypatch.setenv(variable, " ".join(VALUES[name]))
    assert asked(*more) == expected
    # What is typed comes first.
    if not OPTIONS[name].is_flag and name not in ("model", "allow_origin", "allow_host"):
        monkeypatch.setenv(variable, "none.example" if name == "host" else "1")
        assert asked(*flags(name)) == expected


def test_a_variable_that_is_wrong_is_named(monkeypatch):
    for value, message in (("many", "'many'; expected a whole number"), ("70000", "70000, expected 0 to 65535")):
        monkeypatch.setenv("SAO_ONNX_SERVE_PORT", value)
        with pytest.raises(USAGE_ERROR) as caught:
            app(["serve"], standalone_mode=False)
        assert caught.value.format_message() == f"SAO_ONNX_SERVE_PORT is {message}"


def test_a_variable_with_folders_that_have_spaces(asked, monkeypatch):
    Path("my models/rain").mkdir(parents=True)
    monkeypatch.setenv("SAO_ONNX_MODEL", "my models/rain sao-tiny")
    assert asked()[0].models == ("my models/rain", "sao-tiny")


def test_a_variable_with_models_that_are_not_there(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    hint = "; words are one model where they are the path of a folder"
    for value, line in (
        ("a b", f"the models a and b are named by SAO_ONNX_MODEL{hint}"),
        ("a b c", f"the models a, b and c are named by SAO_ONNX_MODEL{hint}"),
        ("a", "the model a is named by SAO_ONNX_MODEL"),
    ):
        done = CliRunner().invoke(app, ["serve"], env={"SAO_ONNX_MODEL": value})
        assert done.exit_code == 3
        assert done.output.splitlines()[-1] == line


@pytest.mark.parametrize(
    ("local", "key", "allowed", "expected"),
    [
        (True, False, (), LOCAL),
        (True, True, (), LOCAL),
        (True, False, ("Studio.LAN",), (*LOCAL, "studio.lan")),
        (False, False, (), (*LOCAL, "pi", "pi.local")),
        (False, True, (), ()),
        (False, True, ("studio.lan",), (*LOCAL, "studio.lan")),
        (False, False, ("studio.lan",), (*LOCAL, "studio.lan")),
    ],
)
def test_under_which_names_it_may_be_called(monkeypatch, local, key, allowed, expected):
    monkeypatch.setattr("platform.node", lambda: "Pi")
    assert hosts(local, key, allowed) == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]"])
def test_addresses_of_this_machine_need_no_key(asked, host):
    settings, _, _ = asked("--host", host)
    assert (settings.hosts, settings.addresses) == (LOCAL, False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "studio.lan"])
def test_addresses_of_others_need_a_key(asked, host):
    with pytest.raises(typer.BadParameter, match="--key-file"):
        asked("--host", host)
    settings, _, _ = asked("--host", host, "--key-file", "key")
    assert (settings.key, settings.hosts, settings.addresses) == ("secret", (), True)


@pytest.mark.parametrize(("content", "says"), [("", "empty"), ("\n", "empty"), ("schlüssel", "key"), ("x" * 5_000, "4,096")])
def test_a_key_that_is_none(tmp_path, capsys, content, says):
    (tmp_path / "key").write_text(content, encoding="utf-8")
    assert app(["serve", "--key-file", str(tmp_path / "key")], standalone_mode=False) > 0
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--model", "nothing"], "nothing"), (["--key-file", "none"], "none"), (["--precision", "fp64"], "fp64")],
)
def test_a_server_that_cannot_be_started_says_why(capsys, arguments, says):
    assert app(["serve", "--port", "0", *arguments], standalone_mode=False) > 0
    assert says in capsys.readouterr().err


def test_the_table_of_options_is_that_of_the_command():
    text = (ROOT / "engine" / "server" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:`-\w`, )?`--([a-z-]+)` \| `([^`]+)` \| ([^|]*?) \|", text, re.MULTILINE)
    assert [name.replace("-", "_") for name, _, _ in rows] == list(OPTIONS)
    for name, variable, default in rows:
        option = OPTIONS[name.replace("-", "_")]
        assert option.envvar.endswith(variable.lstrip("…")), name
        if isinstance(option.default, (str, int, float)) and not isinstance(option.default, bool):
            assert default.replace(" ", "") == f"{option.default:g}" if not isinstance(option.default, str) else option.default


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://app.example/", "https://app.example"),
        ("HTTP://App.Example:80", "http://app.example"),
        ("http://a:81", "http://a:81"),
    ],
)
def test_origins_are_written_as_browsers_write_them(asked, written, origin):
    assert asked("--allow-origin", written)[0].origins == (origin,)


@pytest.mark.parametrize("written", ["app.example", "*", "https://app.example/page", "file:///", "https://a b"])
def test_what_can_be_no_origin_is_refused(asked, written):
    with pytest.raises(USAGE_ERROR) as caught:
        asked("--allow-origin", written)
    assert "expected one such as https://example.org" in caught.value.format_message()


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"a\nb\n", "several lines"), ("schlüssel".encode(), "other letters than ASCII"), (b" \n", "is empty")],
)
def test_keys_that_no_header_can_carry(asked, capsys, data, message):
    Path("other").write_bytes(data)
    with pytest.raises(IndexError):  # Nothing was served.
        asked("--key-file", "other")
    assert message in capsys.readouterr().err
