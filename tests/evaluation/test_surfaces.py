"""Surface distances: by hand, against MedPy and DeepMind's surface-distance, and by what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
import surface_distance as deepmind
from medpy.metric import binary as medpy
from scipy.ndimage import gaussian_filter
from skimage.metrics import hausdorff_distance

from evaluation.surfaces import SurfaceDistances, bounding_box, surface_distances, surface_points

SPACING = (2.5, 0.8, 0.7)


def blobs(seed: int, shape: tuple[int, int, int] = (16, 20, 18)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first, second = (gaussian_filter(rng.normal(size=shape), 2) > 0.02 for _ in range(2))
    return first, second


def found(prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...] = SPACING) -> SurfaceDistances:
    distances = surface_distances(prediction, reference, spacing)
    assert distances is not None
    return distances


def all_of(distances: SurfaceDistances) -> list[float]:
    return [distances.assd_mm, distances.rmsd_mm, distances.hausdorff_mm, distances.hausdorff95_mm]


def test_two_voxels_by_hand() -> None:
    """One voxel each, 1 row and 2 columns apart: 0.8 and 1.4 mm, so sqrt(2.6) mm every way."""
    first, second = np.zeros((2, 3, 4, 5), bool)
    first[1, 1, 1] = second[1, 2, 3] = True
    assert all_of(found(first, second)) == pytest.approx([2.6**0.5] * 4)


def test_a_line_and_its_end_by_hand() -> None:
    """A line of 3 voxels against its first: distances 0, 1, 2 mm one way, 0 the other."""
    line, point = np.zeros((2, 1, 1, 5), bool)
    line[0, 0, :3] = point[0, 0, 0] = True
    distances = found(line, point, (1, 1, 1))
    assert distances.assd_mm == pytest.approx(3 / 4)
    assert distances.rmsd_mm == pytest.approx((5 / 4) ** 0.5)
    assert distances.hausdorff_mm == 2
    assert distances.hausdorff95_mm == pytest.approx(1.9)  # 95 % of the way from 0 to 2, linear between 1 and 2


def test_the_surface_of_a_cube_by_hand() -> None:
    """Of 5 x 5 x 5 voxels 27 lie inside; the edge of the volume is a surface too."""
    cube = np.ones((5, 5, 5), bool)
    assert len(surface_points(cube, (1, 1, 1))) == 125 - 27
    # a corner notch lays bare no inner voxel: the neighbourhood has no corners
    cube[0, 0, 0] = False
    assert len(surface_points(cube, (1, 1, 1))) == 124 - 27
    cube[0, 0, 1] = False  # beside it along an edge: now (1, 1, 1) has lost a neighbour
    assert len(surface_points(cube, (1, 1, 1))) == 123 - 26


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_medpy(seed: int) -> None:
    prediction, reference = blobs(seed)
    distances = found(prediction, reference)
    assert distances.assd_mm == pytest.approx(medpy.assd(prediction, reference, SPACING, connectivity=2))
    assert distances.hausdorff_mm == pytest.approx(medpy.hd(prediction, reference, SPACING, connectivity=2))
    # MedPy takes the 95th percentile of both directions together, never above the larger of the two
    assert medpy.hd95(prediction, reference, SPACING, connectivity=2) <= distances.hausdorff95_mm + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scikit_image(seed: int) -> None:
    """scikit-image measures between all voxels, in voxels: the same on surfaces, where the spacing is 1."""
    prediction, reference = blobs(seed)
    ones = (1.0, 1.0, 1.0)
    outlines = []
    for mask in (prediction, reference):
        outline = np.zeros(mask.shape, bool)
        outline[tuple(surface_points(mask, ones).astype(int).T)] = True
        outlines.append(outline)
    assert found(prediction, reference, ones).hausdorff_mm == pytest.approx(hausdorff_distance(*outlines))


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # theirs
@pytest.mark.parametrize("seed", range(5))
def test_deepmind_measures_between_other_surfaces(seed: int) -> None:
    """Its surface runs between the voxels and is weighted by area: the same to within the voxels' size, no closer."""
    prediction, reference = blobs(seed)
    distances = found(prediction, reference)
    theirs = deepmind.compute_surface_distances(reference, prediction, SPACING)
    voxel = float(np.linalg.norm(SPACING))
    assert abs(deepmind.compute_robust_hausdorff(theirs, 100) - distances.hausdorff_mm) < voxel
    assert abs(deepmind.compute_robust_hausdorff(theirs, 95) - distances.hausdorff95_mm) < voxel
    assert np.mean(deepmind.compute_average_surface_distance(theirs)) < distances.assd_mm + voxel


@pytest.mark.parametrize("seed", range(3))
def test_what_must_not_change_them(seed: int) -> None:
    prediction, reference = blobs(seed)
    expected = all_of(found(prediction, reference))
    assert all_of(found(reference, prediction)) == pytest.approx(expected)
    moved = [np.pad(mask, ((3, 0), (1, 2), (0, 4))) for mask in (prediction, reference)]
    inside = [np.pad(mask, 1) for mask in (prediction, reference)]  # away from the edge, as `moved` is not everywhere
    assert all_of(found(*inside)) == pytest.approx(expected)
    assert all_of(found(*moved)) == pytest.approx(expected)
    turned = [mask.transpose(2, 0, 1) for mask in (prediction, reference)]
    assert all_of(found(*turned, (0.7, 2.5, 0.8))) == pytest.approx(expected)
    doubled = tuple(2 * mm for mm in SPACING)
    assert all_of(found(prediction, reference, doubled)) == pytest.approx([2 * value for value in expected])
    assert all_of(found(prediction, prediction)) == [0, 0, 0, 0]
    assert 0 <= expected[0] <= expected[1] <= expected[2]
    assert expected[3] <= expected[2]


def test_an_empty_mask_has_no_distance() -> None:
    empty, one = np.zeros((2, 3, 3, 3), bool)
    one[1, 1, 1] = True
    for pair in ((empty, one), (one, empty), (empty, empty)):
        assert surface_distances(*pair, SPACING) is None
    assert bounding_box(empty) is None
    assert bounding_box(one) == (slice(1, 2),) * 3
    with pytest.raises(ValueError, match="one shape with 3 axes"):
        surface_distances(one, one[0], SPACING)
