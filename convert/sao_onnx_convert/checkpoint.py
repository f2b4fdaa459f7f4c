"""Where the files of a model are: a folder or a repository on the Hugging Face hub, safetensors only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sao_onnx_convert.errors import CheckpointError, CheckpointNotFoundError
from sao_onnx_convert.file_kinds import PICKLES, file_names, pickled
from sao_onnx_convert.layouts import other_model

CONFIG = "model_config.json"
WEIGHTS = "model.safetensors"
LICENSES = ("LICENSE*", "LICENCE*", "NOTICE*", "COPYING*")
REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Source:
    """Files of a model on this machine.

    Attributes:
        folder: Where they are.
        name: Short name: the folder's, or the repository's without its owner.
        origin: Repository id, or the folder's name.
        revision: Commit of the repository, None for a folder.
    """

    folder: Path
    name: str
    origin: str
    revision: str | None

    def licenses(self) -> list[Path]:
        """Licence and notice files of the model, sorted."""
        return sorted({path for pattern in LICENSES for path in self.folder.glob(pattern) if path.is_file()})


def locate(place: str | Path, files: tuple[str, ...], others: tuple[str, ...] = ()) -> Source:
    """Find a model's files: a folder as it is, a repository id by downloading `files`, `others` and the licence.

    Raises:
        CheckpointNotFoundError: There is no such folder or repository, or no right to download it.
        CheckpointError: The place is a pickled checkpoint or lacks one of `files`.
    """
    path = Path(place).expanduser()
    if path.suffix in PICKLES:
        raise CheckpointError(pickled(path.name))
    if path.is_dir():
        name = path.resolve().name
        source = Source(path, name, name, None)
    elif path.exists():
        raise CheckpointError(f"{path} is a file; expected the folder that holds {' and '.join(files) or 'it'}")
    elif REPOSITORY.fullmatch(str(place)):
        source = _download(str(place), (*files, *others))
    else:
        raise CheckpointNotFoundError(f"{place} is neither a folder nor a repository id such as 'owner/name'")
    missing = [name for name in files if not present(source.folder, name)]
    if missing:
        names = file_names(source.folder)
        pickles = [name for name in names if "/" not in name and name.endswith(PICKLES)]
        reason = other_model(names)
        if reason is None and pickles and any(name.endswith(".safetensors") for name in missing):
            reason = pickled(pickles[0])
        raise CheckpointError(f"{source.folder} lacks {', '.join(missing)}" + (f": {reason}" if reason else ""))
    return source


def present(folder: Path, name: str) -> bool:
    """Whether a file is there, or in its place the index of its shards."""
    return (folder / name).is_file() or (folder / f"{name}.index.json").is_file()


def _download(repository: str, files: tuple[str, ...]) -> Source:
    # Imported here: a conversion from folders needs no network code.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    page = f"https://huggingface.co/{repository}"
    try:
        folder = Path(
            snapshot_download(repository, allow_patterns=[*files, "tokenizer_config.json", "added_tokens.json", *LICENSES])
        )
    except GatedRepoError as error:
        raise CheckpointNotFoundError(
            f"{repository} is gated: accept its licence at {page}, then run `hf auth login` and try again"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointNotFoundError(
            f"{repository} was not found; check the name, and run `hf auth login` if the repository is private"
        ) from error
    except LocalEntryNotFoundError as error:
        raise CheckpointNotFoundError(
            f"{repository} is not a folder here, not in the download cache, and the hub cannot be reached ({page})"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise CheckpointNotFoundError(f"{repository} could not be downloaded from {page}: {error}") from error
    return Source(folder, repository.rpartition("/")[2], repository, folder.name)
