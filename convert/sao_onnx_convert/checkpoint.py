"""Where the files of a model are: a folder or a repository on the Hugging Face hub, safetensors only."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sao_onnx_convert.errors import CheckpointError, CheckpointNotFoundError

CONFIG = "model_config.json"
WEIGHTS = "model.safetensors"
LICENSES = ("LICENSE*", "LICENCE*", "NOTICE*", "COPYING*")
PICKLES = (".ckpt", ".bin", ".pt", ".pth")
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
        raise CheckpointError(_pickled(path.name))
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
        raise CheckpointError(f"{source.folder} lacks {', '.join(missing)}{absence(missing, file_names(source.folder))}")
    return source


def present(folder: Path, name: str) -> bool:
    """Whether a file is there, or in its place the index of its shards."""
    return (folder / name).is_file() or (folder / f"{name}.index.json").is_file()


def file_names(folder: Path) -> list[str]:
    """Files in a folder and in the folders within it, relative to it, with `/` between."""
    paths = (path for pattern in ("*", "*/*") for path in folder.glob(pattern))
    return sorted(path.relative_to(folder).as_posix() for path in paths if path.is_file())


def absence(missing: Collection[str], names: Collection[str]) -> str:
    """What a folder or repository that lacks wanted files holds instead, as the end of a sentence; empty if nothing is known.

    Args:
        missing: Wanted files that are not there.
        names: Files that are there, with their folders, `/` between them.
    """
    here = sorted(names)
    top = [name for name in here if "/" not in name]
    if "model_index.json" in here:
        return ": it is in the Diffusers layout; expected the original files, model_config.json and model.safetensors"
    if "adapter_config.json" in here or any(name.startswith("adapter_model.") for name in here):
        return ": it is an adapter (a LoRA), not a whole model; convert the model that it was made for"
    pickled = [name for name in top if Path(name).suffix in PICKLES]
    others = [name for name in top if name.endswith(".safetensors")]
    if any(name.endswith(".safetensors") for name in missing):
        if others:
            return f"; it holds {', '.join(others[:5])}: give the one that is the whole model the name {WEIGHTS}"
        if pickled:
            return f": {_pickled(pickled[0])}"
        if foreign := [name for name in here if name.endswith((".gguf", ".onnx", ".tflite"))]:
            return f"; it holds {foreign[0]}, another format; expected the original weights as safetensors"
    elif any(Path(name).name == CONFIG for name in here):
        return f"; it lies in {next(name for name in here if Path(name).name == CONFIG)}"
    elif configs := [name for name in here if name.endswith(".json")]:
        return f"; it holds {', '.join(configs[:5])}"
    return ""


def _pickled(name: str) -> str:
    return (
        f"{name} is a pickled checkpoint, which can run any program when it is opened; expected model.safetensors. "
        "Download the safetensors file of the same model, or load the checkpoint where you trust it and write its state_dict "
        "with safetensors.torch.save_file"
    )


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
