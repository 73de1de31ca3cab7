"""Surface distances: by hand, against other libraries, and by what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
import surface_distance as deepmind
from medpy.metric import binary as medpy
from scipy.ndimage import gaussian_filter
from skimage.metrics import hausdorff_distance

from evaluation.metrics.regions import find_box
from evaluation.metrics.surfaces import SurfaceDistances, find_surface, measure_distances

SPACING = (2.5, 0.8, 0.7)


def blobs(seed: int, shape: tuple[int, int, int] = (16, 20, 18)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first, second = (gaussian_filter(rng.normal(size=shape), 2) > 0.02 for _ in range(2))
    return first, second


def measure(
    prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...] = SPACING
) -> SurfaceDistances:
    distances = measure_distances(prediction, reference, spacing)
    assert distances is not None
    return distances


def list_distances(distances: SurfaceDistances) -> list[float]:
    return [distances.assd_mm, distances.rmsd_mm, distances.hausdorff_mm, distances.hausdorff95_mm]


def test_two_voxels_by_hand() -> None:
    """One voxel each, 1 row and 2 columns apart: 0.8 and 1.4 mm, so sqrt(2.6) mm every way."""
    first, second = np.zeros((2, 3, 4, 5), bool)
    first[1, 1, 1] = second[1, 2, 3] = True
    assert list_distances(measure(first, second)) == pytest.approx([2.6**0.5] * 4)


def test_a_line_and_its_end_by_hand() -> None:
    """A line of 3 voxels against its first: distances 0, 1, 2 mm one way, 0 the other."""
    line, point = np.zeros((2, 1, 1, 5), bool)
    line[0, 0, :3] = point[0, 0, 0] = True
    distances = measure(line, point, (1, 1, 1))
    assert distances.assd_mm == pytest.approx(3 / 4)
    assert distances.rmsd_mm == pytest.approx((5 / 4) ** 0.5)
    assert distances.hausdorff_mm == 2
    # 95 % of the way from 0 to 2, linear between 1 and 2.
    assert distances.hausdorff95_mm == pytest.approx(1.9)


def test_the_surface_of_a_cube_by_hand() -> None:
    """Of 5 x 5 x 5 voxels 27 lie inside; the edge of the volume is a surface too."""
    cube = np.ones((5, 5, 5), bool)
    assert len(find_surface(cube, (1, 1, 1))) == 125 - 27
    # a corner notch lays bare no inner voxel: the neighbourhood has no corners
    cube[0, 0, 0] = False
    assert len(find_surface(cube, (1, 1, 1))) == 124 - 27
    cube[0, 0, 1] = False  # beside it along an edge: now (1, 1, 1) has lost a neighbour
    assert len(find_surface(cube, (1, 1, 1))) == 123 - 26


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_medpy(seed: int) -> None:
    prediction, reference = blobs(seed)
    distances = measure(prediction, reference)
    assert distances.assd_mm == pytest.approx(
        medpy.assd(prediction, reference, SPACING, connectivity=2)
    )
    assert distances.hausdorff_mm == pytest.approx(
        medpy.hd(prediction, reference, SPACING, connectivity=2)
    )
    pooled = np.concatenate([distances.prediction_mm, distances.reference_mm])
    assert medpy.hd95(prediction, reference, SPACING, connectivity=2) == pytest.approx(
        np.percentile(pooled, 95)
    )


def test_the_95th_percentile_of_medpy_lies_above_or_below_ours() -> None:
    """Theirs pools both ways. Points: 0, 10 each way, pooled 0, 0, 10, 10. Line: 0, 1, 2 and 0."""
    prediction, reference = np.zeros((2, 1, 11, 11), bool)
    prediction[0, [0, 10], 0] = reference[0, 0, [0, 10]] = True
    ones = (1.0, 1.0, 1.0)
    assert measure(prediction, reference, ones).hausdorff95_mm == pytest.approx(9.5)
    assert medpy.hd95(prediction, reference, ones, connectivity=2) == pytest.approx(10)
    line, point = np.zeros((2, 1, 1, 5), bool)
    line[0, 0, :3] = point[0, 0, 0] = True
    assert measure(line, point, ones).hausdorff95_mm == pytest.approx(1.9)
    assert medpy.hd95(line, point, ones, connectivity=2) == pytest.approx(1.85)


def test_the_default_of_medpy_is_another_surface() -> None:
    """A cube of 3 x 3 x 3 without a voxel on an edge, against its middle alone.

    25 voxels around the middle: 6 at 1 mm, 11 at sqrt(2), 8 at sqrt(3). To connectivity=2 the
    middle is laid bare, too: two distances of 0 more. To connectivity=1, the default, it is not:
    from the middle to the surface 1 mm.
    """
    cube, middle = np.zeros((2, 5, 5, 5), bool)
    cube[1:4, 1:4, 1:4], cube[1, 1, 2] = True, False
    middle[2, 2, 2] = True
    ones, around = (1.0, 1.0, 1.0), 6 + 11 * 2**0.5 + 8 * 3**0.5
    assert measure(cube, middle, ones).assd_mm == pytest.approx(around / 27)
    assert medpy.assd(cube, middle, ones, connectivity=2) == pytest.approx(around / 27)
    assert medpy.assd(cube, middle, ones) == pytest.approx((around + 1) / 26)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scikit_image(seed: int) -> None:
    """scikit-image measures between all voxels, in voxels: the same on surfaces, at spacing 1."""
    prediction, reference = blobs(seed)
    ones = (1.0, 1.0, 1.0)
    outlines = []
    for mask in (prediction, reference):
        outline = np.zeros(mask.shape, bool)
        outline[tuple(find_surface(mask, ones).astype(int).T)] = True
        outlines.append(outline)
    assert measure(prediction, reference, ones).hausdorff_mm == pytest.approx(
        hausdorff_distance(*outlines)
    )


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # theirs
@pytest.mark.parametrize("seed", range(5))
def test_deepmind_measures_between_other_surfaces(seed: int) -> None:
    """Its surface runs between voxels, weighted by area: the same to within a voxel's edge."""
    prediction, reference = blobs(seed)
    distances = measure(prediction, reference)
    theirs = deepmind.compute_surface_distances(reference, prediction, SPACING)
    edge = min(SPACING)
    assert deepmind.compute_robust_hausdorff(theirs, 100) == pytest.approx(
        distances.hausdorff_mm, abs=edge
    )
    assert deepmind.compute_robust_hausdorff(theirs, 95) == pytest.approx(
        distances.hausdorff95_mm, abs=edge
    )
    assert np.mean(deepmind.compute_average_surface_distance(theirs)) == pytest.approx(
        distances.assd_mm, abs=edge
    )


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # theirs
def test_deepmind_weighs_by_area() -> None:
    """A line of 3 voxels against its first. Ours: 0, 1, 2 mm one way and 0 the other.

    Theirs has four elements at each of x = -0.5, 0.5, 1.5, 2.5, at 0, 0, 1, 2 mm. Those at the two
    ends are the corners of a cube cut off, sqrt(3) / 8 mm2; those between are its edges cut off,
    sqrt(1 / 2) mm2. 88 % of the area lies within 1 mm, so the 95th percentile is 2 mm, where ours
    is 1.9.
    """
    line, point = np.zeros((2, 5, 5, 8), bool)
    line[2, 2, 2:5] = point[2, 2, 2] = True
    ones = (1.0, 1.0, 1.0)
    theirs = deepmind.compute_surface_distances(point, line, ones)
    corner, edge = 3**0.5 / 8, 0.5**0.5
    average = (edge * 1 + corner * 2) / (2 * edge + 2 * corner)
    assert deepmind.compute_average_surface_distance(theirs) == pytest.approx(
        (0, average), rel=1e-6
    )
    assert deepmind.compute_robust_hausdorff(theirs, 95) == 2
    ours = measure(line, point, ones)
    assert (ours.prediction_mm.mean(), ours.reference_mm.mean()) == (1, 0)
    assert ours.hausdorff95_mm == pytest.approx(1.9)


@pytest.mark.parametrize("seed", range(3))
def test_what_must_not_change_them(seed: int) -> None:
    prediction, reference = blobs(seed)
    expected = list_distances(measure(prediction, reference))
    assert list_distances(measure(reference, prediction)) == pytest.approx(expected)
    moved = [np.pad(mask, ((3, 0), (1, 2), (0, 4))) for mask in (prediction, reference)]
    # Away from the edge, as `moved` is not everywhere.
    inside = [np.pad(mask, 1) for mask in (prediction, reference)]
    assert list_distances(measure(*inside)) == pytest.approx(expected)
    assert list_distances(measure(*moved)) == pytest.approx(expected)
    turned = [mask.transpose(2, 0, 1) for mask in (prediction, reference)]
    assert list_distances(measure(*turned, (0.7, 2.5, 0.8))) == pytest.approx(expected)
    doubled = tuple(2 * mm for mm in SPACING)
    assert list_distances(measure(prediction, reference, doubled)) == pytest.approx(
        [2 * value for value in expected]
    )
    assert list_distances(measure(prediction, prediction)) == [0, 0, 0, 0]
    assert 0 <= expected[0] <= expected[1] <= expected[2]
    assert expected[3] <= expected[2]


def test_an_empty_mask_has_no_distance() -> None:
    empty, one = np.zeros((2, 3, 3, 3), bool)
    one[1, 1, 1] = True
    for pair in ((empty, one), (one, empty), (empty, empty)):
        assert measure_distances(*pair, SPACING) is None
    assert find_box(empty) is None
    assert find_box(one) == (slice(1, 2),) * 3
    with pytest.raises(ValueError, match="one shape with 3 axes"):
        measure_distances(one, one[0], SPACING)
    with pytest.raises(ValueError, match="must be boolean"):
        measure_distances(one, one.astype(np.uint8), SPACING)
    for spacing in ((1.0, 1.0), (1.0, 1.0, 0.0), (1.0, np.nan, 1.0)):
        with pytest.raises(ValueError, match="3 positive numbers"):
            measure_distances(one, one, spacing)
