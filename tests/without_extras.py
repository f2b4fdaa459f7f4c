"""A plugin for pytest: nothing but the engine can be imported, as where no extra is installed."""

from __future__ import annotations

import importlib.abc
import sys

from tests.conftest import EXTRAS


class _Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if any(top in names for names in EXTRAS.values()):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)


sys.meta_path.insert(0, _Missing())
