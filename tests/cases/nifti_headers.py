"""Headers of NIfTI files that contradict themselves, as strategies for hypothesis."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

CODES = st.sampled_from([0, 1, 2, 4])
SIZES = st.sampled_from([(1.0, 1.0, 1.0), (0.5, 0.75, 2.0), (2.0, 0.5, 0.5), (1.25, 3.0, 1.0)])
UNITS = st.sampled_from([0, 1, 2, 3, 4, 2 + 8, 7 + 16])
NO_LENGTHS = st.sampled_from([0.0, np.nan, np.inf, -np.inf])


@st.composite
def rotations(draw: st.DrawFn) -> np.ndarray:
    """Directions of three axes at right angles: along those of the world, or oblique."""
    signs = np.array(draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)))
    if draw(st.booleans()):
        return np.eye(3)[list(draw(st.permutations(range(3))))] * signs
    angles = draw(st.tuples(*[st.integers(-170, 170)] * 3))
    return Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * signs


@st.composite
def affines(draw: st.DrawFn, sizes: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = draw(rotations()) * sizes
    affine[:3, 3] = draw(st.tuples(*[st.integers(-200, 200)] * 3))
    return affine


@st.composite
def headers(draw: st.DrawFn, shape: tuple[int, ...] = (3, 4, 5)) -> nib.Nifti1Header:
    """Two forms and voxel sizes, which agree or do not."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    sizes = draw(SIZES)
    qform = draw(affines(sizes))
    kind = draw(st.sampled_from(["same", "elsewhere", "scaled", "moved", "rounded", "skewed", "singular"]))
    sform = draw(affines(sizes)) if kind == "elsewhere" else qform.copy()
    if kind == "scaled":
        sform[:3, :3] *= draw(st.sampled_from([0.5, 2.0, 10.0]))
    elif kind == "moved":
        sform[:3, 3] += draw(st.sampled_from([0.01, 0.5, 30.0]))
    elif kind == "rounded":
        sform[:3] *= 1 + 1e-7
    elif kind == "skewed":
        sform[:3, 0] += sform[:3, 1] * 0.1
    elif kind == "singular":
        sform[:3, draw(st.integers(0, 2))] = 0
    header.set_qform(qform, draw(CODES))
    header.set_sform(sform, draw(CODES))
    if draw(st.booleans()):
        header.structarr["pixdim"][1:4] = draw(SIZES)
    if draw(st.booleans()):
        header.structarr["pixdim"][draw(st.integers(1, 3))] *= -1
    header.structarr["xyzt_units"] = draw(UNITS)
    return header


def file_with(header: nib.Nifti1Header, path: Path) -> Path:
    """A file of this very header, whose voxels count."""
    header = header.copy()
    header.structarr["vox_offset"] = 352
    shape = header.structarr["dim"][1 : 1 + header.structarr["dim"][0]]
    voxels = np.arange(np.maximum(shape, 1).prod(), dtype=np.int16)
    path.write_bytes(header.binaryblock + bytes(4) + voxels.tobytes())
    return path
