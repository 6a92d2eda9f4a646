"""The DEcode network in Keras, as published.

Source: Tasaki et al. 2020, Methods, 'Deep learning model', and the hyper-parameters that the
authors released with their tissue model (decode_tissue_gene_params.json).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from decode_zoo.sites import Side
from decode_zoo.training import import_keras

if TYPE_CHECKING:
    import keras

__all__ = ["DecodeConfig", "build_network"]


@dataclass(frozen=True)
class DecodeConfig:
    """Hyper-parameters; the defaults are those of the published tissue model.

    Attributes
    ----------
    rna_channels, promoter_channels : int
        Channels of each convolution.
    rna_kernel, promoter_kernel : int
        Width of each convolution in bins.
    rna_layers, promoter_layers : int
        Number of convolutions.
    conv_relu : bool
        ReLU after each convolution (ConvRelu; published: no). Position sums are then no longer
        exact, and the network must see full matrices.
    full_relu : bool
        ReLU after each fully connected layer (FullRelu; published: yes).
    dense_layers, dense_width : int
        Fully connected layers before the output layer.
    """

    rna_channels: int = 160
    rna_kernel: int = 2
    rna_layers: int = 2
    promoter_channels: int = 120
    promoter_kernel: int = 1
    promoter_layers: int = 5
    conv_relu: bool = False
    full_relu: bool = True
    dense_layers: int = 2
    dense_width: int = 160

    @property
    def kernels(self) -> dict[Side, int]:
        """Composite kernel width of each branch in bins."""
        return {
            "promoter": self.promoter_layers * (self.promoter_kernel - 1) + 1,
            "rna": self.rna_layers * (self.rna_kernel - 1) + 1,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def build_network(config: DecodeConfig, channels: dict[Side, int], n_outputs: int) -> keras.Model:
    """Build the network for sequences of any length.

    Parameters
    ----------
    config : DecodeConfig
    channels : dict of Side to int
        Input channels of each side, mask channel included.
    n_outputs : int

    Returns
    -------
    keras.Model
        Inputs ``rna`` and ``promoter`` of shape (batch, bins, channels), already scaled; output of
        shape (batch, n_outputs) in units of the output scales.
    """
    keras = import_keras()

    def branch(side: Side, layers: int, kernel: int, width: int) -> tuple[Any, Any]:
        inputs = hidden = keras.Input((None, channels[side]), name=side)
        for i in range(layers):
            hidden = keras.layers.Conv1D(
                width, kernel, use_bias=False, activation="relu" if config.conv_relu else None,
                name=f"{side}_conv{i}",
            )(hidden)  # fmt: skip
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
