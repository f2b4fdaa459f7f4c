"""Opens what `torch.save` wrote (`.ckpt`, `.pt`, `.pth`, `.bin`) without running anything that is in it.

Such a file is a zip archive of a pickle and of the numbers of its tensors. A pickle is a list of instructions, and may call any
function by its name. Here every name is looked at first, before an instruction is followed. Only these pass:

- what tensors are made of (`TENSORS`), a narrower list than PyTorch's own;
- a few classes that trainers leave in their snapshots (`INERT`). They are neither imported nor made: an empty object takes
  their place.

Then `torch.load(weights_only=True)` follows the instructions. Its interpreter knows no others than those that build containers
and tensors, and looks up no name that is not on a list. The tensors stay in the file, mapped, until they are read.

So a file from anywhere can waste some seconds or be refused, and run no program. What this does not promise: that the weights
are those of the model that the file claims to be, or that PyTorch's interpreter has no mistakes. Releases before 2.10 had one
that a file could use to damage memory (CVE-2026-24747), so they are refused.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.source.file_kinds import DOWNLOAD, actual_kind

SAFE_TORCH = (2, 10)
"""The first release of PyTorch whose interpreter of pickles has no known way out."""

LARGEST_PICKLE = 16 << 20
"""Bytes of instructions. A training snapshot of the released model has a quarter of a megabyte of them."""

MOST_RECORDS = 1 << 16
"""Files in the archive: one for each tensor, and a few more."""

MOST_TUPLES = 1 << 16
"""Instructions that make a tuple, four for each tensor. They could be put into each other, and a hash of such a nest would
overflow the stack."""

DEEPEST_SHARING = 12
"""Tuples that hold earlier ones again, level upon level. `torch.save` writes two or three levels. Each could double what a hash
has to walk through, so that sixty would take for ever."""

_KINDS = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_DTYPES = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "uint16", "uint32", "uint64")

TENSORS = frozenset(
    {
        "collections.OrderedDict",
        "torch.Size",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch.storage.UntypedStorage",
        *(f"torch.{kind}Storage" for kind in _KINDS),
        *(f"torch.{dtype}" for dtype in _DTYPES),
        # Bytes and sets, as the second version of the pickle format has them.
        "_codecs.encode",
        "builtins.set",
    }
)
"""What state dictionaries are made of."""

_LIGHTNING = ("pytorch_lightning", "lightning.pytorch")
_FABRIC = ("lightning_fabric", "lightning.fabric")
_NUMPY = ("numpy.core", "numpy._core")

DICTIONARIES = frozenset(
    {
        "collections.defaultdict",
        *(f"{package}.utilities.parsing.AttributeDict" for package in _LIGHTNING),
        *(f"{package}.utilities.data.AttributeDict" for package in _FABRIC),
    }
)
"""Classes of dictionaries; a plain one takes their place."""

INERT = DICTIONARIES | {
    "argparse.Namespace",
    "datetime.datetime",
    "datetime.timedelta",
    "numpy.dtype",
    "numpy.ndarray",
    "typing.Any",
    *(f"{package}.multiarray.{name}" for package in _NUMPY for name in ("scalar", "_reconstruct")),
    *(f"builtins.{name}" for name in ("bool", "dict", "float", "int", "list", "str", "tuple")),
    *(f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig")),
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata")),
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "Boolean", "Bytes", "Enum", "Float", "Integer", "Path", "String")),
    *(f"pathlib.{part}{name}" for part in ("", "_local.") for name in ("Path", "PosixPath", "WindowsPath")),
    *(f"pathlib.{part}{name}" for part in ("", "_local.") for name in ("PurePath", "PurePosixPath", "PureWindowsPath")),
    *(f"{package}.callbacks.early_stopping.EarlyStoppingReason" for package in _LIGHTNING),
    *(f"{package}.callbacks.model_checkpoint.ModelCheckpoint" for package in _LIGHTNING),
}
"""Classes that Lightning and its users leave in snapshots beside the weights: hyperparameters, paths, scores, times."""

_INSTRUCTIONS = re.compile(
    "APPENDS?|BIN(FLOAT|GET|INT[12]?|PERSID|PUT|UNICODE)|BUILD|EMPTY_(DICT|LIST|SET|TUPLE)|GLOBAL|LONG1|LONG_BIN(GET|PUT)|MARK|"
    "NEW(FALSE|OBJ|TRUE)|NONE|PROTO|REDUCE|SETITEMS?|SHORT_BINSTRING|STOP|TUPLE[123]?"
)
"""Instructions that `torch.save` writes."""

RESAVE = "load it where you trust it, and save its state_dict alone, with safetensors.torch.save_file"


class _Inert:
    """Takes the place of an object that is not needed. It takes whatever its maker was to be given, and keeps nothing."""

    def __new__(cls, *arguments: object) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


class _Dictionary:
    """Makes a plain dictionary, in place of an instance of another class of dictionaries."""

    def __new__(cls, *arguments: object) -> dict[Any, Any]:  # type: ignore[misc]
        return {}


def is_archive(path: Path) -> bool:
    """Whether a file begins as what `torch.save` writes."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def load_pickled(path: Path) -> Any:
    """What was saved in a file with `torch.save`: containers, numbers, texts, and tensors that are mapped from the file.

    Raises:
        CheckpointError: The file is no such archive or is damaged, holds anything but tensors and what trainers leave beside
            them, or PyTorch is too old to read it safely.
    """
    _require_safe_torch(path)
    names = _names(_instructions(path), path)
    if unknown := sorted(names - TENSORS - INERT):
        raise CheckpointError(
            f"{path} is refused: it holds {', '.join(unknown[:8])}, and what is no tensor could run a program when it is "
            f"loaded; expected a state_dict, or a snapshot of Lightning. If you know where it comes from, {RESAVE}"
        )
    places: list[Any] = [(_Dictionary if name in DICTIONARIES else _Inert, name) for name in names & INERT]
    try:
        with torch.serialization.safe_globals(places):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # Whatever a damaged list of instructions leads to.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if isinstance(error, MemoryError) or "allocate memory" in reason:
            raise CheckpointError(
                f"{path} cannot be opened: there is too little memory to map its {path.stat().st_size} bytes"
            ) from error
        raise CheckpointError(f"{path} is damaged ({reason[:200]}); {DOWNLOAD}") from error


def _require_safe_torch(path: Path) -> None:
    found = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if found is None or (int(found[1]), int(found[2])) < SAFE_TORCH:
        wanted = ".".join(map(str, SAFE_TORCH))
        raise CheckpointError(
            f"{path.name} can be opened safely by PyTorch {wanted} or later only, found {torch.__version__}: run "
            f"`pip install --upgrade 'torch>={wanted}'`, or take the safetensors file of the same model"
        )


def _instructions(path: Path) -> bytes:
    """The pickle in an archive, after a look at the archive's table: nothing is packed, nothing is larger than the file."""
    if not is_archive(path):
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {_other_kind(path)}")
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            _check_records(records, path)
            return archive.read(f"{_folder(records)}/data.pkl")
    except CheckpointError:
        raise
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} is damaged or cut short, because the table at the end of its archive cannot be read ({error}); {DOWNLOAD}"
        ) from error


def _folder(records: list[zipfile.ZipInfo]) -> str:
    return records[0].filename.partition("/")[0]


def _check_records(records: list[zipfile.ZipInfo], path: Path) -> None:
    names = {record.filename for record in records}
    inside = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inside:
        raise CheckpointError(f"{path} is a TorchScript archive, which holds a program; expected the state_dict of a model")
    if not records or f"{_folder(records)}/data.pkl" not in names:
        raise CheckpointError(f"{path} is a zip archive, but not one of torch.save; unpack it, and give what is inside")
    size = path.stat().st_size
    pickle = next(record for record in records if record.filename == f"{_folder(records)}/data.pkl")
    problem = None
    if len(names) != len(records) or len(records) > MOST_RECORDS:
        problem = f"{len(records)} files, {len(names)} of different names, expected at most {MOST_RECORDS}, all different"
    elif any(record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size for record in records):
        problem = "packed files, expected files as they are"
    elif sum(record.file_size for record in records) > size:
        problem = f"files of more bytes than the {size} of the archive"
    elif pickle.file_size > LARGEST_PICKLE:
        problem = f"{pickle.file_size} bytes of instructions, expected at most {LARGEST_PICKLE}"
    if problem:
        raise CheckpointError(f"{path} is no archive that torch.save wrote: found {problem}; {DOWNLOAD}")


def _other_kind(path: Path) -> str:
    """What a file is that does not begin as an archive."""
    with path.open("rb") as file:
        start = file.read(512)
    if start[257:262] == b"ustar" or start.startswith(b"\x80"):
        return (
            "it is a pickle in the format of before 2020, or another program's, which cannot be read without running it; "
            f"{RESAVE}"
        )
    return actual_kind(path) or f"it is no archive of torch.save; {DOWNLOAD}"


def _names(instructions: bytes, path: Path) -> set[str]:
    """Names of all that a pickle asks for.

    Raises:
        CheckpointError: An instruction is unknown, or there are more than a checkpoint needs.
    """
    names, tuples, sharing = set(), 0, _Sharing()
    try:
        for operation, argument, _ in pickletools.genops(instructions):
            if not _INSTRUCTIONS.fullmatch(operation.name) or (operation.name == "PROTO" and argument != 2):
                raise CheckpointError(
                    f"{path} is refused: its pickle has the instruction {operation.name} {argument or ''}".rstrip()
                    + f", which torch.save does not write; {RESAVE}"
                )
            tuples += operation.name.startswith("TUPLE")
            sharing.follow(operation.name, argument)
            if operation.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                # What Python 2 called it, as the second version of the pickle format still does.
                names.add(f"{'builtins' if module == '__builtin__' else module}.{name}")
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); {DOWNLOAD}") from error
    if sharing.deepest > DEEPEST_SHARING:
        raise CheckpointError(
            f"{path} is refused: its tuples hold each other over {sharing.deepest} levels, expected at most {DEEPEST_SHARING}; "
            f"{DOWNLOAD}"
        )
    if tuples > MOST_TUPLES:
        raise CheckpointError(f"{path} is refused: it has {tuples} tuples, expected at most {MOST_TUPLES}; {DOWNLOAD}")
    return names


class _Sharing:
    """How often tuples are used again inside of others, level upon level; rather too many than too few.

    A tuple that is used again was stored right after it was made, and is fetched before the one that holds it is made.

    Attributes:
        deepest: Levels of the deepest nest that can have been built so far.
    """

    def __init__(self) -> None:
        self.deepest = 0
        self._stored: dict[object, int] = {}
        self._fetched = 0
        self._made = False

    def follow(self, operation: str, argument: object) -> None:
        """Follow one instruction."""
        if operation.endswith("PUT"):
            self._stored[argument] = self._fetched + 1 if self._made else 0
        elif operation.endswith("GET"):
            self._fetched = max(self._fetched, self._stored.get(argument, 0))
        self._made = operation.startswith("TUPLE")
        if self._made:
            self.deepest = max(self.deepest, self._fetched + 1)
