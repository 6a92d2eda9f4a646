"""Training of models (extra ``train``); TensorFlow is imported only when it is needed."""

from __future__ import annotations

import os
from typing import Any

from decode_zoo.errors import MissingExtraError

__all__ = ["import_keras"]


def import_keras() -> Any:
    """Import Keras on TensorFlow, quietly.

    Raises
    ------
    MissingExtraError
        If TensorFlow is not installed.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import keras
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("tensorflow", "train") from error
    return keras
