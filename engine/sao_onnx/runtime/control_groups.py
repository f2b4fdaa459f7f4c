"""Control groups: folders in which the Linux kernel keeps the limits of a group of processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from sao_onnx.runtime import kernel_files

TOP = PurePosixPath("/sys/fs/cgroup")


def folders(controller: str) -> Iterator[tuple[PurePosixPath, bool]]:
    """The folders that may limit this process: its groups, and those around them.

    Args:
        controller: What is limited: "memory" or "cpu".

    Yields:
        Each folder, and whether it is one of the older version of control groups, whose files have other names. Some may not
        exist.
    """
    for line in kernel_files.read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top = TOP
        elif controller in controllers.split(","):
            top = TOP / controller
        else:
            continue
        group = top / path.lstrip("/")
        # In a container the path may be the one outside of it. Then only the top folder exists.
        for folder in (group, *group.parents):
            if folder.is_relative_to(top):
                yield folder, controllers != ""
