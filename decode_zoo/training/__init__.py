"""Training of models (extra ``train``); TensorFlow is imported only when it is needed."""

from __future__ import annotations

import os
import sys
from typing import Any

from decode_zoo.core.errors import MissingExtraError
from decode_zoo.core.system import silence_stderr
from decode_zoo.networks.backends import import_onnxruntime

__all__ = ["import_converters", "import_keras"]


def import_keras() -> Any:
    """Import Keras on TensorFlow, quietly; raise MissingExtraError without TensorFlow."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules and "keras" in sys.modules:
        return sys.modules["keras"]
    try:
        with silence_stderr(unless_it_fails=True):
            import keras
            import tensorflow as tf

            tf.constant(0) + 0  # it greets a second time when it first computes
    except ImportError as error:
        raise MissingExtraError("tensorflow", "cpu,train") from error
    return keras


def import_converters() -> tuple[Any, Any]:
    """Import tf2onnx and onnx, and see that ONNX Runtime is there to check the graph with."""
    try:
        import_onnxruntime()
        import onnx
        import tf2onnx
    except ImportError as error:
        raise MissingExtraError(error.name or "tf2onnx", "cpu,train") from error
    return tf2onnx, onnx
