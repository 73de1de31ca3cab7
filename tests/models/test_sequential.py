"""From probabilities to labels (paper 2.1, 2.3)."""

from __future__ import annotations

import numpy as np

from models.sequential import find_most_probable, label_map, mask_liver, mask_tumor, split_classes


def test_label_rule_in_every_case() -> None:
    # L above or at s1 or below, T above or at s2 or below: tumor only inside the liver, thresholds
    # are strict.
    liver = np.array([0.9, 0.9, 0.9, 0.3, 0.3, 0.5])
    tumor = np.array([0.8, 0.4, 0.1, 0.8, 0.1, 0.8])
    masked = mask_tumor(tumor, mask_liver(liver, 0.5))
    np.testing.assert_array_equal(label_map(liver, masked, 0.5, 0.4), [2, 1, 1, 0, 0, 0])


def test_tumor_mask_does_not_depend_on_the_liver_threshold_shown() -> None:
    # M was made with the s1 the second network trained with; another rule for the liver's outline
    # leaves T alone.
    liver, tumor = np.array([0.45, 0.45]), np.array([0.8, 0.1])
    np.testing.assert_array_equal(label_map(liver, tumor, 0.5, 0.4), [2, 0])


def test_mask_and_masked_probability() -> None:
    liver, tumor = np.array([[0.2, 0.8]]), np.array([[0.7, 0.6]])
    mask = mask_liver(liver, 0.5)
    np.testing.assert_array_equal(mask, [[False, True]])
    np.testing.assert_array_equal(mask_tumor(tumor, mask), [[0.0, 0.6]])


def test_one_step_liver_includes_the_tumor() -> None:
    liver, tumor = split_classes(np.array([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(liver, [0.5, 1.0])
    np.testing.assert_allclose(tumor, [0.25, 1.0])


def test_most_probable_class_by_hand() -> None:
    classes = np.array(
        [[0.5, 0.3, 0.2], [0.3, 0.4, 0.3], [0.2, 0.3, 0.5], [0.4, 0.3, 0.3], [0.375, 0.25, 0.375]]
    )
    liver, tumor = 1 - classes[:, 0], classes[:, 2]
    # The last is a tie of other and tumor: the first class wins, as np.argmax does.
    np.testing.assert_array_equal(find_most_probable(liver, tumor), [0, 1, 2, 0, 0])
