"""Half precision only where the machine computes it, and saved networks on any machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import data.backend
from data.backend import choose_precision, keras, load_network
from data.command import InputError
from models.unet import build_unet


@pytest.fixture
def half_network(tmp_path: Path) -> tuple[Path, keras.Model]:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_unet(16, widths=(4, 8))
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "half.keras")
    return tmp_path / "half.keras", model


def test_precision_falls_back_without_units_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.backend, "has_accelerator", lambda: False)
    half, single = "mixed_bfloat16", "float32"
    for flags, expected in (
        ({"avx2", "amx_bf16"}, half),
        ({"avx512_bf16"}, half),
        ({"avx512f"}, single),
        (set(), single),
    ):
        monkeypatch.setattr(data.backend, "read_processor_flags", lambda flags=flags: flags)
        assert choose_precision("mixed_bfloat16") == expected
        assert choose_precision("float32") == "float32"
    monkeypatch.setattr(data.backend, "has_accelerator", lambda: True)
    assert choose_precision("mixed_float16") == "mixed_float16"


def test_half_network_is_loaded_in_single_precision_without_units_for_half(
    half_network: tuple[Path, keras.Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = half_network
    monkeypatch.setattr(data.backend, "choose_precision", lambda wanted: "float32")
    loaded = load_network(path)
    assert {layer.compute_dtype for layer in loaded.layers} == {"float32"}
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    for mine, saved in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, saved)
    x = np.random.default_rng(0).random((1, 16, 16, 1), np.float32)
    assert loaded(x).shape == (1, 16, 16, 1)


def test_damaged_network_is_refused_in_one_line(
    tmp_path: Path, half_network: tuple[Path, keras.Model]
) -> None:
    whole = half_network[0].read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: len(whole) // 2])
    for name in ("cut.keras", "missing.keras"):
        with pytest.raises(InputError, match=name) as caught:
            load_network(tmp_path / name)
        assert "\n" not in str(caught.value)
