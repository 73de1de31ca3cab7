"""The U-Net: its size by hand, its layers, its two heads."""

from __future__ import annotations

import keras
import pytest

from models.unet import build_unet


def by_hand(widths: tuple[int, ...], channels: int, classes: int) -> int:
    """Weights and biases of every convolution, level by level, as on paper."""
    *encoder, bottom = widths
    total, width_in = 0, channels
    for width in encoder:
        total += (9 * width_in * width + width) + (9 * width * width + width)
        width_in = width
    total += (9 * width_in * bottom + bottom) + (9 * bottom * bottom + bottom)
    width_in = bottom
    for width in reversed(encoder):
        total += 4 * width_in * width + width  # 2 x 2 transposed convolution
        total += (9 * 2 * width * width + width) + (
            9 * width * width + width
        )  # after the skip connection
        width_in = width
    return total + encoder[0] * classes + classes


def test_paper_network_has_31030593_parameters() -> None:
    # Worked out level by level: encoder 37,568 + 221,440 + 885,248 + 3,539,968; bottom 14,157,824;
    # decoder 9,176,576 + 2,294,528 + 573,824 + 143,552; classifier 65.
    assert build_unet(None).count_params() == 31_030_593


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("widths", [(8, 16), (4, 8, 16, 32), (16, 32, 64, 128, 256)])
def test_parameters_by_hand(widths: tuple[int, ...], classes: int) -> None:
    assert build_unet(64, 1, classes, widths).count_params() == by_hand(widths, 1, classes)


def test_layers_are_named_by_level_and_dropout_is_only_in_the_expanding_path() -> None:
    model = build_unet(32, widths=(4, 8, 16), dropout=0.3)
    names = [layer.name for layer in model.layers]
    for level in (1, 2):
        assert {f"encoder_{level}_conv_1", f"encoder_{level}_pool", f"decoder_{level}_up"} <= set(
            names
        )
    dropped = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.name for layer in dropped] == ["decoder_2_dropout", "decoder_1_dropout"]
    assert all(layer.rate == 0.3 for layer in dropped)
