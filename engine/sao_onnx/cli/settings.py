"""Defaults of the user's own for the options of commands: from variables of the environment and from a file.

What comes first decides: the command line, the environment, the file, and then the model or the program. In the environment and
in the file, what is said for one command comes before what is said for all. Nothing of it reaches the library, and nothing is
read for `--help`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sao_onnx.cli.command_options import MODEL_VARIABLE
from sao_onnx.cli.declared import COMMANDS, Declared, declared
from sao_onnx.cli.setting_values import own_value, request_values
from sao_onnx.cli.settings_file import VARIABLE, Entry, read_entries, shown_as_toml
from sao_onnx.option import RECORDING, shown
from sao_onnx.request import kinds
from sao_onnx.suggest import suggestion

PREFIX = "SAO_ONNX_"

WITHOUT = ("convert", "config", "models", "add", "remove", "default")
"""Commands that have no settings: what they do is done once, or is about the settings."""

ONCE = (
    *("from_file", "surprise", "shard", "plot", "preview", "report", "dry_run", "show", "reset"),
    *("force", "as_json", "quiet", "verbose"),
)
"""Options of one run, by their parameters. A setting would surprise, overwrite, or break scripts."""

SHARED = ("model", "threads", "precision", "bits", "metadata")
"""Options that mean the same for all commands, beside those of a request: the keys before the first table of the file."""

OF_SOUND = ("precision", "bits")
"""Options beside those of a request that `--from` takes from its file."""

OTHERS = ("VERIFY", "ARM", "FUZZ", "REPOSITORY", "PROCESSOR", "OPS")
"""Ends of other variables with our prefix: of the library, and of chores of the repository."""


@dataclass(frozen=True)
class Applied:
    """A setting that a command uses.

    Attributes:
        key: Of the option.
        value: Of the option.
        source: The variable, or the file with its line.
    """

    key: str
    value: Any
    source: str

    @property
    def line(self) -> str:
        """For people."""
        return f"setting     {self.key} {written(self.value)}, from {self.source}"


def written(value: Any) -> str:
    """A value as a file of settings has it."""
    return json.dumps(value, ensure_ascii=False, default=str)


@dataclass(frozen=True)
class _Setting:
    """A value for an option as it was written somewhere.

    Attributes:
        option: The option.
        key: The name that it has there.
        value: Text, or what TOML has.
        source: Where.
        from_file: It is TOML's, which tells numbers from text.
    """

    option: Declared
    key: str
    value: Any
    source: str
    from_file: bool

    def values(self) -> dict[str, Any]:
        """What it means, by the names of options or parameters.

        Raises:
            RequestError: It is no value of the option. The message names the source.
        """
        from sao_onnx.errors import RequestError

        try:
            if self.option.kind is not None:
                return request_values(self.key, self.value, from_json=self.from_file)
            return {self.option.name: own_value(self.option, self.key, self.value, from_file=self.from_file)}
        except RequestError as error:
            problem = str(error)
            if self.from_file:  # The library shows values as Python writes them.
                problem = problem.replace(f" is {shown(self.value)}", f" is {shown_as_toml(self.value)}", 1)
            raise RequestError(f"{self.source}: {problem}") from error


def commands() -> dict[str, dict[str, Declared]]:
    """The options that can be set, by their keys, for every command that has such options."""
    found = {name: _keys(name) for name in COMMANDS if name not in WITHOUT}
    return {name: keys for name, keys in found.items() if keys}


@functools.cache
def _keys(command: str) -> dict[str, Declared]:
    keys: dict[str, Declared] = {}
    for option in declared(COMMANDS[command]):
        if option.info.envvar == MODEL_VARIABLE:  # It is an argument of some commands.
            keys["model"] = option
        elif option.name not in ONCE and not (option.kind is not None and option.kind.option.task == RECORDING):
            # What is about one recording is no default for clips that are made of words.
            keys |= dict.fromkeys(option.keys, option)
    return keys


def shared_keys() -> dict[str, Declared]:
    """The keys that may stand before the first table."""
    found: dict[str, Declared] = {}
    for keys in commands().values():
        shared = {key: option for key, option in keys.items() if key in SHARED or option.kind is not None}
        # Of the first command that has it: a server takes several models.
        found = shared | found
    return found


def settled(command: str, given: Iterable[str], values: Mapping[str, Any]) -> tuple[dict[str, Any], list[Applied]]:
    """The values of a command's options, with settings where the command line leaves one open.

    Args:
        command: Its name.
        given: Parameters that the command line names.
        values: The values of all parameters.

    Returns:
        All values, and the settings among them.

    Raises:
        FileError: The file of settings cannot be read.
        RequestError: A setting is unknown, or has a value that it cannot have. The message says where.
    """
    if command not in commands():
        return dict(values), []
    layers = [*_from_environment(command), *_from_file(command)]
    named = set(given)
    options = [option for option in declared(COMMANDS[command]) if option.name in named]
    taken = {name for option in options for name in _decided(option, values[option.name])}
    if values.get("from_file") is not None:
        taken |= {*kinds(), *OF_SOUND}
    found = dict(values)
    applied = []
    for layer in layers:
        new: dict[str, Any] = {}
        for setting in layer:
            if setting.option.name in taken:
                continue
            for name, value in setting.values().items():
                if name not in taken:
                    new[name] = value
                    key = name if name in kinds() else _plain(setting.key)
                    applied.append(Applied(key, value, setting.source))
        found |= new
        taken |= new.keys()
    return found, applied


def settled_model() -> Applied | None:
    """The setting that names the model for all commands, if there is one; raises as `settled` does."""
    return next(iter(settled("inspect", (), {"bundle": None})[1]), None)


def check_all() -> None:
    """Refuse a file of settings with a mistake in it, whichever command it is about; raises as `settled` does."""
    for name in commands():
        for layer in (*_from_environment(name), *_from_file(name)):
            for setting in layer:
                setting.values()


def unknown_variables() -> dict[str, str]:
    """Variables with our prefix that mean nothing, each with one that does, or with several in words; "" where none is near."""
    known = {VARIABLE, *(PREFIX + end for end in OTHERS), *(PREFIX + key.upper() for key in shared_keys())}
    for name, keys in commands().items():
        known |= {f"{PREFIX}{name}_{key}".upper() for key in keys}
    unknown = [name for name in os.environ if name.startswith(PREFIX) and name not in known]
    return {name: _of_commands(name.removeprefix(PREFIX).lower()) or suggestion(name, known) for name in unknown}


def _of_commands(key: str) -> str:
    """The variables of a key that only some commands have; "" where none has it."""
    found = [f"{PREFIX}{name}_{key}".upper() for name, keys in commands().items() if key in keys]
    return f"{', '.join(found[:-1])} or {found[-1]}" if len(found) > 1 else "".join(found)


def _from_environment(command: str) -> list[list[_Setting]]:
    """What the environment says for a command, and then what it says for all. What holds only blanks is not set."""
    options, shared = _keys(command), shared_keys()
    own = {f"{PREFIX}{command}_{key}".upper(): key for key in options}
    for_all = {f"{PREFIX}{key}".upper(): key for key in options if key in shared}
    return [
        [_Setting(options[key], key, os.environ[name], name, False) for name, key in names.items() if _is_set(name)]
        for names in (own, for_all)
    ]


def _is_set(variable: str) -> bool:
    return bool(os.environ.get(variable, "").strip())


def _from_file(command: str) -> list[list[_Setting]]:
    """What the file says in the table of a command, and then what it says before its tables.

    Raises:
        RequestError: It has a table or a key that there is not, whichever command it is about.
    """
    found: dict[str, list[_Setting]] = {command: [], "": []}
    inline = {key for key, option in shared_keys().items() if option.kind is not None and option.kind.name == "numbers"}
    for entry in read_entries(inline):
        _require_known(entry)
        option = _keys(command).get(_plain(entry.key))
        if option is not None and entry.key and entry.table in found:
            found[entry.table].append(_Setting(option, entry.key, entry.value, entry.place, True))
    for layer in found.values():
        _require_once(layer)
    return [found[command], found[""]]


def _require_once(layer: Iterable[_Setting]) -> None:
    """Refuse two keys of one option, as `cfg` and `cfg_scale` are."""
    from sao_onnx.errors import RequestError

    seen: dict[str, str] = {}
    for setting in layer:
        for name in setting.values():
            if name in seen:
                raise RequestError(f"{setting.source}: {name} is set twice, as {seen[name]} and as {setting.key}; set it once")
            seen[name] = setting.key


def _plain(key: str) -> str:
    return key.replace("-", "_")


def _is_table(value: Any) -> bool:
    """Whether a value is a table, or several of one name."""
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(part, dict) for part in value))


def _require_known(entry: Entry) -> None:
    from sao_onnx.errors import RequestError

    tables, key = commands(), _plain(entry.key)
    if not entry.table and key in tables:
        raise RequestError(f"{entry.place}: {key} is the name of a table: write [{key}] in one line, and its settings below it")
    if entry.table in tables and key not in tables[entry.table] and _is_table(entry.value):
        raise RequestError(
            f"{entry.place}: there is no table [{entry.table}.{entry.key}]; settings stand below [{entry.table}]"
        )
    if entry.table not in tables and _plain(entry.table) in shared_keys():
        raise RequestError(f"{entry.place}: {entry.table} is a table, expected one value, as in: {entry.table} = ...")
    if entry.table and entry.table not in tables:
        near = suggestion(entry.table, tables)
        remedy = f"did you mean [{near}]?" if near else f"known: {', '.join(tables)}"
        raise RequestError(f"{entry.place}: there is no table [{entry.table}]; {remedy}")
    known = tables[entry.table] if entry.table else shared_keys()
    if key in known or (entry.table and not key):
        return
    where = f"in [{entry.table}]" if entry.table else "before the first table"
    elsewhere = [f"[{name}]" for name, keys in tables.items() if key in keys]
    near = suggestion(key, known)
    if elsewhere:
        remedy = f"it belongs into {' or '.join(elsewhere)}"
    elif near:
        remedy = f"did you mean {near}?"
    else:
        remedy = f"known: {', '.join(known)}"
    raise RequestError(f"{entry.place}: there is no setting {shown(entry.key)} {where}; {remedy}")


def _decided(option: Declared, value: Any) -> Iterator[str]:
    """What an option of the command line decides: itself, or the options that it is another spelling of."""
    from sao_onnx.errors import RequestError
    from sao_onnx.written_options import read_options

    yield option.name
    if option.kind is not None:
        with contextlib.suppress(RequestError):  # It is said when the request is made.
            yield from read_options({option.name: value})
