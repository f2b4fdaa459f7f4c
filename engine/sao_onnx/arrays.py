"""The array type that everything here computes with."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]
"""Single precision, of any shape."""
