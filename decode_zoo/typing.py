"""Types of arrays, by what an element is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]
RealArray = npt.NDArray[np.floating[Any]]  # of either precision
BoolArray = npt.NDArray[np.bool_]
