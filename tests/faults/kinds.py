"""All kinds of faults, and how many of each make a run."""

from __future__ import annotations

from typing import NamedTuple

PATIENCE = 10.0
"""Seconds after which something hangs."""

LONG = 300.0
"""The same for the tests of every day: nothing takes so long that ends at all, however busy the machine is."""


class Kind(NamedTuple):
    """A kind of fault.

    Attributes:
        about: What goes wrong.
        whole: Faults of a whole run.
        short: Faults in the tests of every day.
        rounds: Programs that a fault may wait for, one after the other.
    """

    about: str
    whole: int
    short: int
    rounds: int = 1


KINDS = {
    "bundles": Kind("files and manifest of a bundle", 2700, 40),
    "tags": Kind("tags and headers of clips", 1500, 20),
    "lists": Kind("lists of requests", 1000, 20),
    "requests": Kind("options of requests", 2700, 60),
    "initial": Kind("initial audio", 1200, 30),
    "calls": Kind("a call of the operating system fails, or the process ends there", 500, 8, 5),
    "kills": Kind("signals at any moment", 150, 3, 5),
    "limits": Kind("full disks, little memory, few open files", 180, 5, 5),
    "streams": Kind("stdin, stdout and stderr closed or full", 70, 2, 5),
}
"""The kinds by the name of their module: 10,000 faults in all."""


def module(kind: str) -> str:
    """Full name of the module of a kind."""
    return f"{__package__}.{kind}"
