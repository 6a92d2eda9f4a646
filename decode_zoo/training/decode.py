"""The DEcode network in Keras, as published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from decode_zoo.layout import Side
from decode_zoo.network import DecodeConfig
from decode_zoo.training import import_keras

if TYPE_CHECKING:
    import keras

__all__ = ["build_network"]


def build_network(config: DecodeConfig, channels: dict[Side, int], n_outputs: int) -> keras.Model:
    """Build the network for sequences of any length.

    Source: Tasaki et al. 2020, Methods, 'Deep learning model'. Inputs ``rna`` and ``promoter`` have
    shape (batch, bins, channels), mask channel included, and are scaled; the output of shape
    (batch, n_outputs) is in units of the output scales.
    """
    keras = import_keras()

    def branch(side: Side, layers: int, kernel: int, width: int) -> tuple[Any, Any]:
        inputs = hidden = keras.Input((None, channels[side]), name=side)
        for i in range(layers):
            hidden = keras.layers.Conv1D(
                width,
                kernel,
                use_bias=False,
                activation="relu" if config.conv_relu else None,
                name=f"{side}_conv{i}",
            )(hidden)
        return inputs, keras.ops.sum(hidden, axis=1)

    rna, rna_sum = branch("rna", config.rna_layers, config.rna_kernel, config.rna_channels)
    promoter, promoter_sum = branch(
        "promoter", config.promoter_layers, config.promoter_kernel, config.promoter_channels
    )
    hidden = keras.layers.Concatenate(name="regulators")([rna_sum, promoter_sum])
    for i in range(config.dense_layers):
        hidden = keras.layers.Dense(
            config.dense_width, activation="relu" if config.full_relu else None, name=f"dense{i}"
        )(hidden)
        hidden = keras.layers.BatchNormalization(name=f"norm{i}")(hidden)
    outputs = keras.layers.Dense(n_outputs, name="outputs")(hidden)
    return keras.Model({"rna": rna, "promoter": promoter}, outputs, name="decode")
