"""Man pages and completions are what the commands declare, and work in the programs that they are for."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys

import pytest
from typer.testing import CliRunner

from sao_onnx.cli import app
from tests.processes import run, succeed
from tools.app import read_app
from tools.shipped import SHARE, files, stale

BASH = SHARE / "bash-completion" / "completions" / "sao-onnx"
ZSH = SHARE / "zsh" / "site-functions" / "_sao-onnx"
FISH = SHARE / "fish" / "vendor_completions.d" / "sao-onnx.fish"
PAGES = sorted((SHARE / "man" / "man1").glob("*.1"))

MISSING_DATE = "missing date"
"""A page has the version and no date: whoever builds it on another day gets the same file."""


def test_nothing_is_stale():
    assert stale() == [], "run `make shipped`"


def test_they_are_complete():
    """What help lists is in the man page and in all completions."""
    program = read_app()
    words = [command.words for command in program.walk()]
    assert {("gen",), ("models", "add"), ("config",), ()} <= set(words)
    for command in program.walk():
        shown = CliRunner().invoke(app, [*command.words, "--help"], env={"COLUMNS": "400"}).output
        flags = set(re.findall(r"(?<![\w-])--?(?:\[no-\])?[\w-]+", re.sub(r"Examples:.*", "", shown, flags=re.S)))
        flags |= {flag.replace("[no-]", "") for flag in flags} | {flag.replace("[no-]", "no-") for flag in flags}
        own = {flag for option in command.options for flag in (*option.flags, *option.off)}
        listed = {flag for line in shown.splitlines() for flag in re.findall(r"^  (-.+?)(?:  |$)", line)}
        assert own <= flags
        for line in listed - {"--install-completion", "--show-completion"}:
            for flag in re.findall(r"--?[\w-]+", line.replace("[no-]", "").split(" ")[0]):
                assert flag in own, (command.words, flag)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_man_pages_are_right(path):
    if shutil.which("mandoc"):
        told = run(["mandoc", "-T", "lint", "-W", "warning", path]).stdout.splitlines()
        assert [line for line in told if MISSING_DATE not in line] == []
    elif shutil.which("groff"):
        assert run(["groff", "-man", "-ww", "-z", "-Tutf8", path]).stderr == ""
    else:
        pytest.skip("there is neither mandoc nor groff")


def test_a_man_page_can_be_read():
    if shutil.which("man") is None:
        pytest.skip("there is no man")
    shown = run(
        ["man", "-l", SHARE / "man" / "man1" / "sao-onnx-gen.1"], env=os.environ | {"MANWIDTH": "80", "LC_ALL": "C.UTF-8"}
    )
    if "minimized" in shown.stdout:
        pytest.skip("man pages are left out of this system")
    assert shown.returncode == 0
    assert shown.stderr == ""
    assert "--sampler pingpong|euler|dpmpp" in shown.stdout
    assert "--no-metadata" in shown.stdout


@pytest.fixture
def home(miniature, tmp_path):
    """A user who has models, one with a name that no script should carry out."""
    data = tmp_path / "data" / "sao-onnx"
    for name in ("my model", "$(touch pwned)"):
        (data / "models" / name).mkdir(parents=True)
        (data / "models" / name / "manifest.json").touch()
    shutil.copytree(miniature, tmp_path / "small")
    environment = os.environ | {"XDG_DATA_HOME": str(tmp_path / "data"), "HOME": str(tmp_path)}
    succeed([sys.executable, "-m", "sao_onnx", "models", "add", tmp_path / "small", "--name", "named"], env=environment)
    (tmp_path / "here").mkdir()
    return environment, tmp_path / "here"


TYPED = {
    "": {"gen", "batch", "models", "config"},
    "gen --sampl": {"--sampler"},
    "gen --sampler ": {"pingpong", "euler", "dpmpp"},
    "gen rain --sampler eu": {"euler"},
    "gen --normalize ": {"peak", "lufs", "none"},
    "gen --precision i": {"int8"},
    "batch --format ": {"text", "csv", "jsonl"},
    "gen --no-mo": {"--no-mono"},
    "gen -m ": {"sao-tiny", "named", "my model", "$(touch pwned)"},
    "inspect na": {"named"},
    "models re": {"remove"},
    "models default ": {"sao-tiny", "named", "my model", "$(touch pwned)"},
    "models remove --del": {"--delete"},
    "serve --po": {"--port"},
}
"""What is typed behind the program's name, and what has to be offered."""


def _skip_without(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")


def test_bash(home):
    _skip_without("bash")
    environment, folder = home
    script = [f"source {shlex.quote(str(BASH))}"]
    for typed in TYPED:
        words = ["sao-onnx", *typed.split(" ")]
        script.append(f"COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}; _sao_onnx")
        script.append("printf '%s\\t' \"${COMPREPLY[@]}\"; echo")
    # As bash splits --sampler=eu.
    script.append('COMP_WORDS=(sao-onnx gen --sampler = eu); COMP_CWORD=4; _sao_onnx; echo "${COMPREPLY[@]}"')
    script.append("complete -p sao-onnx; type -t python python3 sao-onnx >/dev/null; echo end")
    done = run(["bash", "--norc", "-c", "\n".join(script)], env=environment, cwd=folder)
    *lines, split, hooked, end = done.stdout.splitlines()
    for (typed, wanted), line in zip(TYPED.items(), lines, strict=True):
        found = set(line.split("\t")) - {""}
        assert wanted <= found, typed
        assert found == wanted or typed == "", typed
    assert (split, end) == ("euler", "end")
    assert "-F _sao_onnx sao-onnx" in hooked
    assert not list(folder.iterdir())


def test_fish(home):
    _skip_without("fish")
    environment, folder = home
    script = [f"source {shlex.quote(str(FISH))}"]
    script += [f"echo :; complete -C {shlex.quote(f'sao-onnx {typed}')}" for typed in (*TYPED, "gen --sampler=eu")]
    done = run(["fish", "--no-config", "-c", "\n".join(script)], env=environment, cwd=folder)
    if "no-config" in done.stderr:
        pytest.skip("this fish is too old")
    assert done.stderr == ""
    _, *parts = done.stdout.split(":\n")
    for (typed, wanted), part in zip((TYPED | {"gen --sampler=eu": {"--sampler=euler"}}).items(), parts, strict=True):
        assert wanted <= {line.partition("\t")[0] for line in part.splitlines()}, typed
    assert not list(folder.iterdir())


def test_zsh(home):
    """Its completions need a terminal, which zsh can make of its own."""
    _skip_without("zsh")
    environment, folder = home
    succeed(["zsh", "-n", ZSH])
    for typed in ("gen --sampler ", "models ", "gen -m ", "models default "):
        script = ZSH_TYPES.format(folder=shlex.quote(str(ZSH.parent)), typed=shlex.quote(f"sao-onnx {typed}"))
        told = run(["zsh", "-f", "-c", script], env=environment, cwd=folder).stdout
        for word in TYPED.get(typed, {"add", "remove", "default"}):
            assert re.sub(r"([$() ])", r"\\\1", word) in told, (typed, told)
    assert not (folder / "pwned").exists()


ZSH_TYPES = r"""
zmodload zsh/zpty || exit
zpty t zsh -f -i
zpty -w t 'fpath=({folder} $fpath); autoload -U compinit; compinit -u -D; PS1="at""tent>"'
zpty -r t line '*attent>*'
zpty -n -w t {typed}$'\t\t\x15'
zpty -w t 'print en""ded; exit'
while zpty -r t line; do print -r -- "$line"; [[ $line == *ended* ]] && break; done
"""
"""Keys are pressed once the prompt is there; before, they would not reach the completion."""


def test_typers_own_completion_is_light():
    """For PowerShell, and where the files are not found; it loads no library that computes."""
    code = (
        "import sys; from sao_onnx.cli import main\n"
        "try: main()\n"
        "finally:\n"
        "    if found := {'numpy', 'onnxruntime', 'tomllib', 'soundfile'} & set(sys.modules): sys.exit(str(found))\n"
    )
    environment = os.environ | {
        "_SAO_ONNX_COMPLETE": "complete_bash",
        "_TYPER_COMPLETE_ARGS": "sao-onnx gen --sampler ",
        "COMP_WORDS": "sao-onnx gen --sampler ",
        "COMP_CWORD": "3",
    }
    done = run([sys.executable, "-c", f"import sys; sys.argv[0] = 'sao-onnx'\n{code}"], env=environment)
    assert done.returncode in (0, 1), done.stderr
    assert set(done.stdout.split()) == {"pingpong", "euler", "dpmpp"}


def test_there_is_a_page_for_every_command():
    assert {path.relative_to(SHARE).as_posix() for path in SHARE.rglob("*") if path.is_file()} == files().keys()
