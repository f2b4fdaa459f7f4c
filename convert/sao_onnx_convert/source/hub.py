"""A repository on the Hugging Face hub. Its files are listed first, and then downloaded one by one to huggingface_hub's cache.

The hub is told nothing but what the requests need. huggingface_hub adds the versions of PyTorch and of other packages to
the user agent unless its telemetry is off, which only an environment variable read at its import decides. That variable belongs
to the application that embeds the converter; here the requests carry a user agent of their own instead.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sao_onnx
from sao_onnx.errors import SaoOnnxWarning
from sao_onnx_convert.errors import ConversionError, DownloadError
from sao_onnx_convert.quiet import quiet
from sao_onnx_convert.source import cache
from sao_onnx_convert.source.address import Address
from sao_onnx_convert.source.attempt import Attempt
from sao_onnx_convert.source.error_chain import from_xet, http_status, lost_connection, of_the_system, sentence
from sao_onnx_convert.source.failures import explain
from sao_onnx_convert.source.source import Report, Source

# huggingface_hub is imported where it is needed: a conversion from folders needs no network code.

REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class HubFile:
    """What the hub says about a file.

    Attributes:
        size: In bytes; None where it does not say.
        blob: Its name in the cache: SHA-256 of the content of large files, Git's digest of others; None where it does not say.
        sha256: SHA-256 of the content; None where it does not say.
    """

    size: int | None = None
    blob: str | None = None
    sha256: str | None = None


def endpoint() -> str:
    """Address of the hub: that of `HF_ENDPOINT`, otherwise the public one."""
    from huggingface_hub import constants

    return constants.ENDPOINT.rstrip("/")


class Repository(Source):
    """A repository of a model. `open` makes one."""

    def __init__(
        self, address: Address, revision: str | None, files: dict[str, HubFile], unreachable: Exception | None = None
    ) -> None:
        repository = address.repository
        super().__init__(
            repository.rpartition("/")[2],
            repository,
            repository,
            revision,
            sorted(files),
            base=address.folder,
            file=address.file,
        )
        self._files = files
        # The error because of which only the cache can be used; None where the hub can be asked.
        self._unreachable = unreachable
        self.complete = unreachable is None
        self._attempt = _attempt(address)

    @classmethod
    def open(cls, address: Address, landmarks: Sequence[str]) -> Repository:
        """List a repository's files: the hub's list, or the cache's where the hub cannot be asked.

        Args:
            address: The repository.
            landmarks: Files of which at least one must be in the cache, if the hub cannot be asked.

        Raises:
            CheckpointNotFoundError: There is no such repository or revision, or no right to read it.
            DownloadError: The hub cannot be asked, and none of `landmarks` is in the cache.
        """
        from huggingface_hub import HfApi, constants

        attempt = _attempt(address)
        try:
            with _silent():
                info = HfApi(endpoint=attempt.endpoint, headers=_headers()).model_info(
                    address.repository,
                    revision=address.revision,
                    files_metadata=True,
                    timeout=constants.HF_HUB_ETAG_TIMEOUT,
                )
                files = {sibling.rfilename: _described(sibling) for sibling in info.siblings or []}
        except Exception as error:  # Errors share no base class: see `error_chain`.
            if (cached := cls._from_cache(address, landmarks, error)) is not None:
                return cached
            raise explain(error, attempt) from error
        return cls(address, info.sha, files)

    @classmethod
    def _from_cache(cls, address: Address, landmarks: Sequence[str], error: Exception) -> Repository | None:
        """The repository as it is in the cache; None if the hub has refused it, or if it is not in the cache."""
        from huggingface_hub.errors import OfflineModeIsEnabled

        status = http_status(error)
        if not lost_connection(error) and (status is None or (status != 429 and status < 500)):
            return None
        names = [address.folder + name for name in landmarks]
        snapshot = cache.find_snapshot(address.repository, names, address.revision or cache.MAIN)
        if snapshot is None:
            return None
        if not isinstance(error, OfflineModeIsEnabled):
            warnings.warn(
                f"the hub at {endpoint()} cannot be asked ({sentence(error)}); {address.repository} is taken from the download "
                f"cache, as of commit {snapshot.name[:12]}",
                SaoOnnxWarning,
                stacklevel=3,
            )
        found = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()]
        return cls(address, snapshot.name, dict.fromkeys(found, HubFile()), error)

    def absent(self, names: Sequence[str]) -> dict[str, int]:
        result = {}
        for name in names:
            file = self._files[name]
            if self._cached(name) is None and not (file.blob and cache.is_complete(self.origin, file.blob)):
                result[name] = max(0, (file.size or 0) - self._arrived(name))
        return result

    def lacking(self, names: Sequence[str], remedy: str) -> ConversionError:
        if self._unreachable is None:
            return super().lacking(names, remedy)
        # The list is that of the cache. What is missing there may be on the hub.
        attempt = replace(self._attempt, file=" and ".join(names), arrived=cache.arrived(self.origin, None))
        return explain(self._unreachable, attempt)

    def fetch(self, names: Sequence[str], report: Report | None = None) -> Path:
        for name in names:
            path = self._cached(name) or self._download(name, report)
            found, expected = path.stat().st_size, self._files[name].size
            if expected is not None and found != expected:
                raise DownloadError(
                    f"{path.resolve()} has {found} bytes, expected {expected}; delete it and run the same command again"
                )
        return cache.base_folder(path, name)

    def _download(self, name: str, report: Report | None) -> Path:
        """Download a file. After an interruption it is continued, if more has arrived than the time before."""
        file = self._files[name]
        arrived = self._arrived(name)
        while True:
            try:
                with _silent():
                    path = self._watched(name, report)
                break
            except Exception as error:  # Errors share no base class: see `error_chain`.
                before, arrived = arrived, self._arrived(name)
                if lost_connection(error) and not from_xet(error) and arrived > before:
                    continue
                if file.blob and _spoils_partial(error):
                    cache.discard_partials(self.origin, file.blob)
                    arrived = 0
                raise explain(error, replace(self._attempt, file=name, arrived=arrived, size=file.size)) from error
        if file.sha256 is not None and _sha256(path) != file.sha256:
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise DownloadError(
                f"{name} of {self.origin} arrived damaged (its SHA-256 is not {file.sha256[:12]}…); run the same command again"
            )
        return path

    def _watched(self, name: str, report: Report | None) -> Path:
        """Request a file in another thread, and report its progress from this one.

        huggingface_hub shows its progress in its own bars only, so the size of the growing file is read. If `report` raises,
        the other thread goes on until its file is complete.
        """
        size = self._files[name].size
        if report is None or size is None:
            return self._request(name)
        outcome: concurrent.futures.Future[Path] = concurrent.futures.Future()

        def run() -> None:
            try:
                outcome.set_result(self._request(name))
            except BaseException as error:  # noqa: BLE001  Whatever it is, another thread raises it.
                outcome.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        arrived = 0
        while not concurrent.futures.wait([outcome], REPORT_SECONDS).done:
            # A complete file gets another name a moment before the request returns, so nothing may be found.
            arrived = max(arrived, min(self._arrived(name), size))
            report(name, arrived, size)
        return outcome.result()

    def _request(self, name: str) -> Path:
        from huggingface_hub import hf_hub_download

        # By the name of the revision first, so that the cache knows which commit it meant when the hub cannot be asked.
        for revision in dict.fromkeys((self._attempt.revision or cache.MAIN, self.revision)):
            path = Path(
                hf_hub_download(
                    self.origin,
                    name,
                    revision=revision,
                    cache_dir=self._attempt.cache,
                    endpoint=self._attempt.endpoint,
                    headers=_headers(),
                )
            )
            # Between the list and the file, the branch may have moved on.
            if self.revision in (None, cache.base_folder(path, name).name):
                break
        return path

    def _cached(self, name: str) -> Path | None:
        return cache.find(self.origin, name, self.revision or self._attempt.revision or cache.MAIN)

    def _arrived(self, name: str) -> int:
        blob = self._files[name].blob
        return 0 if blob is None else cache.arrived(self.origin, blob)


def _attempt(address: Address) -> Attempt:
    return Attempt(address.repository, address.revision, endpoint(), cache.cache_folder())


def _headers() -> dict[str, str]:
    import huggingface_hub

    return {"user-agent": f"sao-onnx/{sao_onnx.__version__}; hf_hub/{huggingface_hub.__version__}"}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Hide progress bars and warnings of huggingface_hub for a while."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    groups = [f"huggingface_hub.{name}" for name in ("http_get", "xet_get")]
    shown = [group for group in groups if not are_progress_bars_disabled(group)]
    with quiet():
        for group in shown:
            disable_progress_bars(group)
        try:
            yield
        finally:
            for group in shown:
                enable_progress_bars(group)


def _described(sibling: Any) -> HubFile:
    if sibling.lfs is None:
        return HubFile(sibling.size, sibling.blob_id)
    return HubFile(sibling.lfs.size, sibling.lfs.sha256, sibling.lfs.sha256)


def _spoils_partial(error: Exception) -> bool:
    """Whether what has arrived must not be continued.

    What hf_xet leaves behind may have holes, and a file that became too long or too short is wrong somewhere. What arrived
    before a connection broke off, the disk was full or the hub refused is good.
    """
    if from_xet(error):
        return True
    return not lost_connection(error) and not of_the_system(error) and http_status(error) in (None, 416)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
