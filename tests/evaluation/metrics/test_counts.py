"""Pooled scores: values derived by hand, by brute force over pairs, and by scikit-learn."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    jaccard_score,
    precision_score,
    rand_score,
    recall_score,
)

from evaluation.metrics import counts as metrics
from evaluation.metrics.counts import (
    Counts,
    Metric,
    compute_scores,
    dice,
    iou,
    partition_rand_index,
    pixel_accuracy,
    precision,
    rand_index,
    register_metric,
    rvd,
    sensitivity,
    specificity,
    voe,
)
from evaluation.metrics.regions import number_components


def mask(text: str) -> np.ndarray:
    return np.array([character == "#" for character in text])


def rand_index_over_all_pairs(prediction: np.ndarray, reference: np.ndarray) -> float:
    pairs = list(combinations(range(prediction.size), 2))
    p, r = prediction.ravel(), reference.ravel()
    return sum((p[i] == p[j]) == (r[i] == r[j]) for i, j in pairs) / len(pairs)


def random_masks(n: int, shape: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(20190221)
    return [(rng.random(shape) < rng.random(), rng.random(shape) < rng.random()) for _ in range(n)]


def test_counts_of_two_masks_by_hand():
    prediction = mask("###..#....").reshape(2, 5)
    reference = mask("##.#......").reshape(2, 5)
    assert Counts.of(prediction, reference) == Counts(tp=2, fp=2, fn=1, tn=5)


def test_scores_by_hand():
    # TP 2, FP 2, FN 1, TN 5: 45 pairs, of which 7 right pixels x 3 wrong pixels = 21 disagree.
    assert compute_scores(Counts(tp=2, fp=2, fn=1, tn=5)) == {
        "pixel_accuracy": 7 / 10,
        "iou": 2 / 5,
        "dice": 4 / 7,
        "rand_index": 24 / 45,
    }


@pytest.mark.parametrize(
    ("prediction", "reference", "accuracy", "overlap", "rand"),
    [
        ("....", "....", 1.0, 1.0, 1.0),
        # One of four pixels is wrong: it disagrees in its 3 pairs with the others, of 6 pairs.
        ("#...", "....", 0.75, 0.0, 0.5),
        ("....", "#...", 0.75, 0.0, 0.5),
        ("#...", "#...", 1.0, 1.0, 1.0),
        # Both filled, disjoint: 2 right and 2 wrong pixels, 4 of 6 pairs disagree.
        ("#...", ".#..", 0.5, 0.0, 2 / 6),
    ],
)
def test_the_four_combinations_of_empty_masks(prediction, reference, accuracy, overlap, rand):
    counts = Counts.of(mask(prediction), mask(reference))
    assert pixel_accuracy(counts) == accuracy
    assert iou(counts) == overlap
    assert dice(counts) == overlap
    assert rand_index(counts) == rand


def test_without_pixels_nothing_is_wrong():
    counts = Counts.of(np.zeros((0, 3), bool), np.zeros((0, 3), bool))
    assert counts == Counts()
    assert set(compute_scores(counts).values()) == {1.0}


@pytest.mark.parametrize("single", [Counts(tp=1), Counts(fp=1), Counts(fn=1), Counts(tn=1)])
def test_rand_index_of_a_single_pixel_is_one(single):
    assert rand_index(single) == 1.0


def test_rand_index_of_a_mask_and_its_complement_is_one():
    reference = mask("##...#.")
    assert rand_index(Counts.of(~reference, reference)) == 1.0


@pytest.mark.parametrize("bits", list(product([False, True], repeat=6)))
def test_rand_index_of_every_pair_of_masks_of_three_pixels(bits):
    prediction, reference = np.array(bits[:3]), np.array(bits[3:])
    expected = rand_index_over_all_pairs(prediction, reference)
    assert rand_index(Counts.of(prediction, reference)) == expected


@pytest.mark.parametrize(("prediction", "reference"), random_masks(20, (4, 6)))
def test_rand_index_agrees_with_all_pairs_and_scikit_learn(prediction, reference):
    received = rand_index(Counts.of(prediction, reference))
    assert received == rand_index_over_all_pairs(prediction, reference)
    assert received == pytest.approx(rand_score(reference.ravel(), prediction.ravel()), abs=1e-15)


@pytest.mark.parametrize(("prediction", "reference"), random_masks(20, (3, 17, 19)))
def test_overlap_and_accuracy_agree_with_scikit_learn(prediction, reference):
    counts = Counts.of(prediction, reference)
    r, p = reference.ravel(), prediction.ravel()
    assert pixel_accuracy(counts) == pytest.approx(accuracy_score(r, p), abs=1e-15)
    assert iou(counts) == pytest.approx(jaccard_score(r, p, zero_division=1.0), abs=1e-15)
    assert dice(counts) == pytest.approx(f1_score(r, p, zero_division=1.0), abs=1e-15)


def test_rand_index_of_many_pixels_does_not_overflow():
    # n = 10^8, half of them wrong: 2.5 * 10^15 disagreeing of 4.99999995 * 10^15 pairs.
    large = Counts(tp=25_000_000, fp=25_000_000, fn=25_000_000, tn=25_000_000)
    assert rand_index(large) == pytest.approx(1 - 2.5e15 / 4.99999995e15, abs=1e-15)
    # n = 10^11 from NumPy's integers, whose products would pass 2^63:
    # 1 - (n/2)^2 / (n (n - 1) / 2) = 1/2 - 1 / (2n - 2).
    huge = Counts(*(np.int64(25_000_000_000),) * 4)
    assert rand_index(huge) == pytest.approx(0.5 - 1 / (2e11 - 2), abs=1e-15)


def test_table_1_has_four_metrics_of_counts_and_takes_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = Counts(tp=3, fp=1, fn=1, tn=5)
    assert list(compute_scores(counts)) == ["pixel_accuracy", "iou", "rand_index", "dice"]
    monkeypatch.setattr(metrics, "METRICS", dict(metrics.METRICS))
    f2 = Metric("f2", "F2", lambda counts: 5 * counts.tp / (5 * counts.tp + counts.fp), table1=True)
    register_metric(f2)
    assert compute_scores(counts)["f2"] == 15 / 16
    with pytest.raises(ValueError, match=r"`metric.name` must be new. Received: 'f2'"):
        register_metric(f2)


def test_addition_is_pooling():
    pairs = random_masks(5, (6, 7))
    pooled = Counts.of(*(np.concatenate(masks) for masks in zip(*pairs, strict=True)))
    assert sum((Counts.of(p, r) for p, r in pairs), start=Counts()) == pooled
    assert pooled.n_pixels == 5 * 6 * 7


@pytest.mark.parametrize(
    ("prediction", "reference", "message"),
    [
        (np.zeros(3), np.zeros(3, bool), "`prediction` must be a boolean array.*dtype=float64"),
        (
            np.zeros(3, bool),
            np.zeros(3, np.uint8),
            "`reference` must be a boolean array.*dtype=uint8",
        ),
        (np.zeros((1, 3), bool), np.zeros(3, bool), r"shape of `reference`.*\(1, 3\).*\(3,\)"),
    ],
)
def test_other_arrays_are_refused(prediction, reference, message):
    with pytest.raises(ValueError, match=message):
        Counts.of(prediction, reference)


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match=r"`fn` must not be negative\. Received: fn=-1"):
        Counts(tp=1, fn=-1)
    with pytest.raises(TypeError):
        Counts(tp=0.5)
    with pytest.raises(TypeError):
        Counts() + 1


@pytest.mark.parametrize(("prediction", "reference"), random_masks(20, (40,)))
def test_shares_agree_with_scikit_learn(prediction: np.ndarray, reference: np.ndarray) -> None:
    counts = Counts.of(prediction, reference)
    assert sensitivity(counts) == pytest.approx(
        recall_score(reference, prediction, zero_division=1.0)
    )
    assert precision(counts) == pytest.approx(
        precision_score(reference, prediction, zero_division=1.0)
    )
    assert specificity(counts) == pytest.approx(
        recall_score(~reference, ~prediction, zero_division=1.0)
    )


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # the table of the module: sensitivity, precision, Dice, IoU, VOE, RVD
        (Counts(tn=9), (1, 1, 1, 1, 0, 0)),
        (Counts(tn=5, fp=4), (1, 0, 0, 0, 1, None)),
        (Counts(tn=5, fn=4), (0, 1, 0, 0, 1, -1)),
        (Counts(tp=2, fp=3, fn=1), (2 / 3, 2 / 5, 4 / 8, 2 / 6, 4 / 6, (5 - 3) / 3)),
    ],
)
def test_the_four_combinations_of_empty_masks_by_the_table(
    counts: Counts, expected: tuple[float | None, ...]
) -> None:
    values = [score(counts) for score in (sensitivity, precision, dice, iou, voe, rvd)]
    assert values[:-1] == pytest.approx(expected[:-1])
    assert values[-1] == expected[-1]


def test_shares_of_empty_masks() -> None:
    nothing = Counts(tn=4)
    assert (sensitivity(nothing), specificity(nothing), precision(nothing), dice(nothing)) == (
        1.0,
        1.0,
        1.0,
        1.0,
    )
    missed = Counts(fn=4)
    assert (sensitivity(missed), specificity(missed), precision(missed), dice(missed)) == (
        0.0,
        1.0,
        1.0,
        0.0,
    )


def test_rand_index_of_partitions() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 5, (2, 30))
        assert partition_rand_index(a, b) == pytest.approx(rand_score(b, a))
        assert partition_rand_index(a, b) == pytest.approx(rand_index_over_all_pairs(a, b))
        first, second = a > 2, b > 2
        assert partition_rand_index(first, second) == pytest.approx(
            rand_index(Counts.of(first, second))
        )
        padded = [np.pad(part, 3) for part in (a, b)]
        outside = padded[0].size - a.size
        assert partition_rand_index(a, b, outside) == pytest.approx(
            rand_score(*(part.ravel() for part in padded))
        )
    assert partition_rand_index(np.zeros(1, int), np.ones(1, int)) == 1.0
    with pytest.raises(ValueError, match="shape"):
        partition_rand_index(np.zeros(2), np.zeros(3))


def test_components_by_hand() -> None:
    """Two lesions drawn as one: 2 x 2 pairs between them disagree, and the bridge's pairs."""
    reference, prediction = mask("##.##....."), mask("#####.....")
    assert number_components(reference).tolist() == [1, 1, 0, 2, 2, 0, 0, 0, 0, 0]
    # disagreeing: 4 pairs between the lesions, 4 of the bridge with them, 5 of the bridge with what
    # lies around
    assert partition_rand_index(
        number_components(prediction), number_components(reference)
    ) == pytest.approx(1 - 13 / 45)
    assert rand_index(Counts.of(prediction, reference)) == pytest.approx(1 - 9 / 45)
