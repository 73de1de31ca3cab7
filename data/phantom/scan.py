"""The synthetic scanner: grid, slices, blur, noise, and the file's axes."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from data.phantom.paint import paint_patient
from data.phantom.patient import Patient
from data.phantom.shapes import Array, Grid, Range

ORIENTATIONS = ("RAS", "LPS", "LAS", "RPI", "SPL", "PIR")
ORIENTATION_SHARES = (0.3, 0.3, 0.2, 0.1, 0.05, 0.05)
MAX_SLICES = 250
SLAB_VOXELS = 6_000_000


@dataclass(frozen=True)
class Scan:
    """How one case is scanned and stored; mm in the frame of `data.phantom.patient`."""

    size: int
    fov_mm: float
    center_mm: tuple[float, float]
    first_slice_mm: float
    n_slices: int
    spacing_mm: float
    thickness_mm: float
    blur_mm: float
    noise_sd_hu: float
    noise_cutoff: float
    orientation: str
    origin_mm: tuple[float, float, float]

    @property
    def pixel_mm(self) -> float:
        """Edge of a pixel."""
        return self.fov_mm / self.size

    def heights(self, start: int, stop: int) -> Array:
        """Return the z of the slices `start`..`stop` - 1."""
        return self.first_slice_mm + self.spacing_mm * np.arange(start, stop)

    def grid(self, start: int, stop: int) -> Grid:
        """Return the voxels of the slices `start`..`stop` - 1."""
        pixel = (np.arange(self.size) - (self.size - 1) / 2) * self.pixel_mm
        y, x = pixel + self.center_mm[0], pixel + self.center_mm[1]
        return Grid.of(self.heights(start, stop), y, x, self.thickness_mm / self.spacing_mm)


def draw_scan(
    rng: np.random.Generator,
    patient: Patient,
    size: int,
    noise_sd_hu: Range,
    noise_cutoff: Range,
) -> Scan:
    """Draw a scan: 320 to 420 mm wide, from below the liver to above its dome.

    The slice spacing is log-uniform between 0.7 and 5 mm, raised where that would make more than
    250 slices. Every fourth case is reconstructed with overlap, its slices a quarter thicker than
    they are apart.

    Args:
        rng: of this scan.
        patient: who is scanned.
        size: in-plane matrix, pixels.
        noise_sd_hu: smallest and largest deviation of the noise.
        noise_cutoff: the same of the kernel, in cycles per pixel.
    """
    fov = float(np.clip(2 * patient.frame.half_width_mm * rng.uniform(1.04, 1.16), 320, 420))
    # The slices reach beyond the liver, in three of ten cases far into the pelvis.
    low, high = patient.liver_extent_mm
    low -= rng.uniform(10, 20) + (rng.uniform(0, 50) if rng.uniform() < 0.3 else 0)
    high += rng.uniform(10, 20)
    spacing = float(np.exp(rng.uniform(np.log(0.7), np.log(5.0))))
    spacing = max(spacing, (high - low) / (MAX_SLICES - 1))
    overlap = 1.25 if rng.uniform() < 0.25 and spacing <= 4 else 1.0
    y, x, z = (float(rng.uniform(-1, 1) * reach) for reach in (6, 6, 900))
    return Scan(
        size=size,
        fov_mm=fov,
        center_mm=(y - 0.5 * (patient.frame.fat_front_mm - 16), x),
        first_slice_mm=low,
        n_slices=min(int(np.ceil((high - low) / spacing)) + 1, MAX_SLICES),
        spacing_mm=spacing,
        thickness_mm=spacing * overlap,
        blur_mm=float(rng.uniform(0.35, 0.7)),
        noise_sd_hu=float(rng.uniform(*noise_sd_hu)),
        noise_cutoff=float(rng.uniform(*noise_cutoff)),
        orientation=str(rng.choice(ORIENTATIONS, p=ORIENTATION_SHARES)),
        origin_mm=(z, float(rng.uniform(-30, 30)), float(rng.uniform(-20, 20))),
    )


def make_noise_filter(size: int, cutoff: float) -> Array:
    """Return the in-plane filter of the noise on the half plane of `rfft2`.

    The noise power of filtered backprojection rises with the frequency f (cycles per pixel) and is
    cut off by the kernel: f exp(-(f / cutoff)^2). The small constant stands for the low frequencies
    that real scans also have. Filtered white noise keeps its deviation.
    """
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :]
    f = np.hypot(fy, fx)
    power = (f + 0.03) * np.exp(-((f / cutoff) ** 2))
    # White noise of variance 1 keeps the mean of the power as its variance.
    return np.sqrt(power / power.mean())[:, : size // 2 + 1].astype(np.float32)


def draw_noise(rng: np.random.Generator, scan: Scan) -> Iterator[Array]:
    """Yield the noise of slice after slice, (size, size) float32 HU.

    Neighbouring slices share a part of the data, the more the thicker they are for their distance.
    """
    shaped = make_noise_filter(scan.size, scan.noise_cutoff)
    shared = 0.15 + (scan.thickness_mm / scan.spacing_mm - 1)
    level = scan.noise_sd_hu / np.sqrt(1 + shared**2)

    def draw_plane() -> Array:
        white = rng.standard_normal((scan.size, scan.size), dtype=np.float32)
        return np.fft.irfft2(np.fft.rfft2(white) * shaped, s=white.shape).astype(np.float32)

    last = draw_plane()
    while True:
        new = draw_plane()
        yield np.float32(level) * (new + np.float32(shared) * last)
        last = new


def acquire(patient: Patient, scan: Scan, rng: np.random.Generator) -> tuple[Array, Array]:
    """Scan a patient.

    The patient is painted some slices at a time, which bounds the memory.

    Args:
        patient: who is scanned.
        scan: how.
        rng: of the noise.

    Returns:
        HU, int16, and labels, uint8, both (n_slices, height, width) in the patient's frame.
    """
    shape = (scan.n_slices, scan.size, scan.size)
    volume, labels = np.empty(shape, dtype=np.int16), np.empty(shape, dtype=np.uint8)
    noise = draw_noise(rng, scan)
    step = max(SLAB_VOXELS // scan.size**2, 4)
    sigma = scan.blur_mm / scan.pixel_mm
    for start in range(0, scan.n_slices, step):
        stop = min(start + step, scan.n_slices)
        # One slice more on both sides: the slope at the outer slices is taken between neighbours.
        hu, label = paint_patient(patient, scan.grid(start - 1, stop + 1))
        hu, labels[start:stop] = hu[1:-1], label[1:-1]
        if sigma > 0.3:
            hu = ndimage.gaussian_filter(hu, (0, sigma, sigma), truncate=3.0)
        for k, plane in zip(range(start, stop), noise, strict=False):
            volume[k] = np.clip(np.rint(hu[k - start] + plane), -1024, 3071)
    return volume, labels


def turn_as_stored(array: Array, scan: Scan) -> nib.Nifti1Image:
    """Return `array` (n_slices, height, width) as NIfTI in the case's own axis order."""
    z, y, x = scan.origin_mm
    affine = np.diag([scan.pixel_mm, scan.pixel_mm, scan.spacing_mm, 1.0])
    corner = -(scan.size - 1) / 2 * scan.pixel_mm
    affine[:3, 3] = (
        corner + scan.center_mm[1] + x,
        corner + scan.center_mm[0] + y,
        scan.first_slice_mm + z,
    )
    image = nib.Nifti1Image(array.transpose(2, 1, 0), affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(scan.orientation)
    )
    image = image.as_reoriented(turn)
    image.set_data_dtype(array.dtype)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"synthetic phantom, not a patient"
    return image


def save_nifti(path: Path, image: nib.Nifti1Image) -> None:
    """Write `image` to `path` as .nii.gz whose bytes depend on the image alone.

    nibabel's own writer puts the file name and the time of day into the gzip header.
    """
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as stream,
    ):
        stream.write(image.to_bytes())
