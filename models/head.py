"""End every network with the layers `logits` and `probability`.

Training reads the logits, because the gradient of a loss on clipped probabilities vanishes where
they saturate. Everything else reads the probabilities, whose layer has no parameters. Logits are
float32: half precision would round them near 0 and saturate the probabilities.
"""

from __future__ import annotations

import keras
from keras import layers


def end_network(inputs: keras.KerasTensor, logits: keras.KerasTensor, name: str) -> keras.Model:
    """Return the network from `inputs` to probabilities.

    They are a sigmoid for one class, else a softmax.

    Args:
        inputs: of the network.
        logits: (batch, ..., classes), output of a layer named `logits`, float32.
        name: the model's name.
    """
    activation = "sigmoid" if logits.shape[-1] == 1 else "softmax"
    outputs = layers.Activation(activation, dtype="float32", name="probability")(logits)
    return keras.Model(inputs, outputs, name=name)


def trim_to_logits(model: keras.Model) -> keras.Model:
    """Return `model` up to its layer `logits`; it shares every weight."""
    return keras.Model(model.input, model.get_layer("logits").output, name=f"{model.name}_logits")
