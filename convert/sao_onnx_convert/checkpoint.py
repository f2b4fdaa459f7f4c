"""Where the weights are: a folder or a repository on the Hugging Face hub, safetensors only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

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


def locate(place: str | Path, files: tuple[str, ...]) -> Source:
    """Find a model's files: a folder as it is, a repository id by downloading `files` and the licence.

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
        raise CheckpointError(f"{path} is a file; expected the folder that holds {' and '.join(files)}")
    elif REPOSITORY.fullmatch(str(place)):
        source = _download(str(place), files)
    else:
        raise CheckpointNotFoundError(f"{place} is neither a folder nor a repository id such as 'owner/name'")
    missing = [name for name in files if not (source.folder / name).is_file()]
    if missing:
        pickled = [p.name for p in sorted(source.folder.iterdir()) if p.suffix in PICKLES]
        if pickled and any(name.endswith(".safetensors") for name in missing):
            raise CheckpointError(_pickled(pickled[0]))
        raise CheckpointError(f"{source.folder} lacks {', '.join(missing)}")
    return source


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


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill a module from a safetensors file, every tensor accounted for, half precision widened to single.

    Raises:
        CheckpointError: The file is damaged; a tensor is missing, unknown, misshapen or not finite (they are listed).
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            _compare(expected, shapes, path)
            tensors = {name: file.get_tensor(name).to(torch.float32) for name in shapes}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors ({error}); download it again") from error
    require_finite(tensors, path)
    module.load_state_dict(tensors, strict=True, assign=True)


def require_finite(tensors: dict[str, Tensor], path: Path) -> None:
    """Refuse NaN and infinite weights.

    Raises:
        CheckpointError: Lists the tensors.
    """
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(f"{path} holds NaN or infinite values in {_listed(broken)}; download it again")


def _compare(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], path: Path) -> None:
    problems = []
    if missing := sorted(expected.keys() - found.keys()):
        problems.append(f"missing: {_listed(missing)}")
    if extra := sorted(found.keys() - expected.keys()):
        problems.append(f"not in the configured model: {_listed(extra)}")
    shapes = [
        f"{name} {list(found[name])}, expected {list(expected[name])}"
        for name in sorted(expected.keys() & found.keys())
        if found[name] != expected[name]
    ]
    if shapes:
        problems.append(f"misshapen: {_listed(shapes)}")
    if problems:
        raise CheckpointError(f"{path} does not match {CONFIG}; " + "; ".join(problems))


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"
