"""Completions for shells. They know all commands, options and values.

They start no Python, which takes a Pi a second: names of models are found in folders and in the list of names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tools.app import FILE, FOLDER, MODEL, NAME, Command, Option

FIRST = "# Made by python -m tools.shipped of what the commands declare."

MODELS = """\
    local data
    echo sao-tiny
    for data in "${XDG_DATA_HOME:-$HOME/.local/share}/sao-onnx" "$HOME/Library/Application Support/sao-onnx"; do
        if [ -d "$data/models" ]; then
            find -L "$data/models" -mindepth 2 -maxdepth 2 -name manifest.json 2>/dev/null | sed 's|/manifest.json$||; s|.*/||'
        fi
        if [ -f "$data/models.json" ]; then
            sed -n '/^ "folders"/,/^ }/s/^  "\\([^"\\\\]*\\)":.*/\\1/p' "$data/models.json"
        fi
    done
"""
"""Names of models, in a shell: that of the package, the user's folder of models, and the list of names."""


def bash(program: Command) -> str:
    """The completion for bash, also its releases that macOS brings."""
    lines = [
        FIRST,
        "_sao_onnx_names() {",
        MODELS.rstrip("\n"),
        "}",
        "",
        "_sao_onnx_offer() {",
        "    # Words, one a line: names may have spaces. Not with `compgen -W`, which carries out what is in them.",
        "    local word",
        "    while IFS= read -r word; do",
        '        [ -n "$word" ] && [ "${word#"$cur"}" != "$word" -o -z "$cur" ] && COMPREPLY+=("$word")',
        '    done <<< "$1"',
        "    compopt +o default +o bashdefault 2>/dev/null",
        "}",
        "",
        "_sao_onnx_folders() {",
        "    local word",
        '    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -d -- "$cur")',
        "    compopt -o filenames 2>/dev/null",
        "}",
        "",
        "_sao_onnx() {",
        "    local cur prev command word index",
        "    cur=${COMP_WORDS[COMP_CWORD]}",
        "    prev=${COMP_WORDS[COMP_CWORD-1]}",
        "    # --option=value comes as three words.",
        '    if [ "$cur" = = ]; then cur=; elif [ "$prev" = = ]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi',
        "    COMPREPLY=()",
        "    command=",
        "    for ((index = 1; index < COMP_CWORD; index++)); do",
        "        word=${COMP_WORDS[index]}",
        '        case "$command $word" in',
    ]
    typed = {command: "".join(f" {word}" for word in command.words) for command in program.walk()}
    lines += [f'            "{words}") command="{words}" ;;' for words in typed.values() if words]
    lines += ["        esac", "    done", '    case "$command" in']
    for command, words in typed.items():
        lines += [f'        "{words}")']
        lines += [f"            {line}" for line in _bash_command(command)]
        lines += ["            ;;"]
    lines += ["    esac", "}", "", "complete -o bashdefault -o default -F _sao_onnx sao-onnx"]
    return "\n".join(lines) + "\n"


def _bash_command(command: Command) -> Iterator[str]:
    yield 'case "$prev" in'
    for option in command.options:
        if option.flags and option.metavar:
            yield f"    {'|'.join(option.flags)}) {_bash_value(option)}; return ;;"
    yield "esac"
    flags = " ".join(_all_flags(command))
    yield 'case "$cur" in'
    yield f"    -*) _sao_onnx_offer \"$(printf '%s\\n' {flags})\" ;;"
    if command.commands:
        yield f"    *) _sao_onnx_offer \"$(printf '%s\\n' {' '.join(below.words[-1] for below in command.commands)})\" ;;"
    elif place := _argument(command):
        yield f"    *) {_bash_place(place)} ;;"
    yield "esac"


def _bash_value(option: Option) -> str:
    if option.values:
        return f"_sao_onnx_offer \"$(printf '%s\\n' {' '.join(option.values)})\""
    return _bash_place(option.place) if option.place else '_sao_onnx_offer ""'


def _bash_place(place: str) -> str:
    folders = "_sao_onnx_folders"
    names = '_sao_onnx_offer "$(_sao_onnx_names)"; compopt -o filenames 2>/dev/null'
    return {FILE: ":", FOLDER: folders, NAME: names, MODEL: f"{names}; {folders}"}[place]


def _argument(command: Command) -> str:
    return next((option.place for option in command.options if not option.flags and option.place), "")


def _all_flags(command: Command) -> list[str]:
    return [flag for option in command.options for flag in (*option.flags, *option.off)]


def zsh(program: Command) -> str:
    """The completion for zsh, with a line of help for each option."""
    lines = ["#compdef sao-onnx", FIRST, "", "_sao_onnx_names() {", MODELS.rstrip("\n"), "}", ""]
    lines += ["_sao_onnx_name() {", '    local -a names; names=("${(@f)$(_sao_onnx_names)}")', "    compadd -a names", "}", ""]
    lines += ["_sao_onnx_bundle() {", "    _sao_onnx_name", "    _files -/", "}", ""]
    for command in reversed(list(program.walk())):
        lines += [f"{_function(command)}() {{", *(f"    {line}" for line in _zsh_command(command)), "}", ""]
    lines += ['_sao_onnx "$@"']
    return "\n".join(lines) + "\n"


def _function(command: Command) -> str:
    return "_".join(("_sao_onnx", *command.words))


def _zsh_command(command: Command) -> Iterator[str]:
    if command.commands:
        yield "local context state state_descr line curcontext=$curcontext"
        yield "local -A opt_args"
    yield "_arguments -s -S " + ("-C " if command.commands else "") + "\\"
    specs = [spec for option in command.options for spec in _zsh_option(option)]
    if command.commands:
        specs += ["'1: :->command'", "'*:: :->rest'"]
    yield from (f"    {spec} \\" for spec in specs[:-1])
    yield f"    {specs[-1]}"
    if not command.commands:
        return
    yield "case $state in"
    yield "    command)"
    yield "        local -a commands; commands=("
    yield from (f"            '{below.words[-1]}:{_zsh_text(below.help[0])}'" for below in command.commands)
    yield "        )"
    yield "        _describe command commands ;;"
    yield "    rest)"
    yield "        case $line[1] in"
    yield from (f"            {below.words[-1]}) {_function(below)} ;;" for below in command.commands)
    yield "        esac ;;"
    yield "esac"


def _zsh_option(option: Option) -> Iterator[str]:
    value = ""
    if option.metavar:
        action = {FILE: "_files", FOLDER: "_files -/", MODEL: "_sao_onnx_bundle", NAME: "_sao_onnx_name", "": " "}[option.place]
        action = f"({' '.join(option.values)})" if option.values else action
        value = f":{_zsh_text(option.metavar)}:{action}"
    if not option.flags:
        yield f"'{'' if option.required else ':'}{value}'"
        return
    every = (*option.flags, *option.off)
    for flag in every:
        front = "*" if option.several else f"({' '.join(every)})"
        yield f"'{front}{flag}[{_zsh_text(option.help)}]{value}'"


def _zsh_text(text: str) -> str:
    """A text within a specification in quotes."""
    return re.sub(r"([\[\]:\\])", r"\\\1", text).replace("'", "'\\''")


def fish(program: Command) -> str:
    """The completion for fish."""
    lines = [FIRST, "function __sao_onnx_names", *_fish_models(), "end", ""]
    lines += ["function __sao_onnx_at"]
    lines += [
        "    # Whether the words before the cursor, without options, are those of a command.",
        "    set -l words (string match -v -- '-*' (commandline -opc)[2..-1])",
        "    set -l count (count $argv)",
        "    test (count $words) -ge $count",
        "    and test (string join ' ' -- $words[1..$count]) = (string join ' ' -- $argv)",
        "end",
        "",
        "complete -c sao-onnx -e",
        "complete -c sao-onnx -f",
    ]
    for command in program.walk():
        lines += list(_fish_command(command))
    return "\n".join(lines) + "\n"


def _fish_models() -> list[str]:
    return [
        "    echo sao-tiny",
        "    set -l home $XDG_DATA_HOME",
        '    test -n "$home"; or set home $HOME/.local/share',
        '    for data in $home/sao-onnx "$HOME/Library/Application Support/sao-onnx"',
        "        if test -d $data/models",
        "            find -L $data/models -mindepth 2 -maxdepth 2 -name manifest.json 2>/dev/null"
        " | string replace -r '/manifest.json$' '' | string replace -r '.*/' ''",
        "        end",
        "        if test -f $data/models.json",
        '            sed -n \'/^ "folders"/,/^ }/s/^  "\\\\([^"\\\\\\\\]*\\\\)":.*/\\\\1/p\' $data/models.json',
        "        end",
        "    end",
    ]


def _fish_command(command: Command) -> Iterator[str]:
    here = f"__sao_onnx_at {' '.join(command.words)}" if command.words else "__fish_use_subcommand"
    if command.words and command.commands:
        names = " ".join(below.words[-1] for below in command.commands)
        here = f"{here}; and not __fish_seen_subcommand_from {names}"
    for below in command.commands:
        yield f"complete -c sao-onnx -n '{here}' -a {below.words[-1]} -d {_fish_text(below.help[0])}"
    for option in command.options:
        yield from (f"complete -c sao-onnx -n '{here}' {spec}" for spec in _fish_option(option))


def _fish_option(option: Option) -> Iterator[str]:
    value = ""
    if option.metavar:
        offered = {FILE: "-rF", FOLDER: "-xa '(__fish_complete_directories)'", "": "-x"}
        offered[NAME] = "-xa '(__sao_onnx_names)'"
        offered[MODEL] = "-xa '(__sao_onnx_names; __fish_complete_directories)'"
        value = f"-xa '{' '.join(option.values)}'" if option.values else offered[option.place]
    if not option.flags:
        if option.place == FILE:
            yield "-F"
        elif option.place:
            yield value.replace("-xa", "-a")
        return
    names = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
    yield " ".join(part for part in (names, value, f"-d {_fish_text(option.help)}") if part)
    yield from (f"-l {flag[2:]} -d {_fish_text(option.help)}" for flag in option.off)


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
