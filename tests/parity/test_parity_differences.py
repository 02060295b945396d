"""The rows of docs/fidelity.md on where nnU-Net fails or leaves room: nnU-Net's answer, and ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contradictions import write_contradiction
from images import affine_of, read_labels, write_image, write_spacing
from probes import (
    BROKEN,
    CASCADE,
    COARSE,
    CUBE,
    GAPS,
    LARGE_LOGITS,
    NO_DATA,
    ONLY_ALL,
    ORDER_FOR_TORCH,
    READERS,
    REGION_300,
    SHEARED,
    TIFF_NAMES,
    UNMIRRORED,
)
from random_model import RandomModel

from napari_nnunet_cpu import Case, Result, Settings, load_model, read_case, segment
from napari_nnunet_cpu.cases import write_labels
from napari_nnunet_cpu.errors import CaseError
from napari_nnunet_cpu.prepare import plan_geometry

MILLIMETRES = (1.0, 1.0, 1.0)


def contradicting(folder: Path, kind: str) -> Case:
    return read_case(write_contradiction(folder / "scan.nii.gz", CUBE[0].T, np.diag([1.0, 1.5, 2.0, 1.0]), kind))


def labelled(model: RandomModel, folder: Path, image: np.ndarray = CUBE, **settings: Any) -> Result:
    return segment(Case(image, MILLIMETRES), load_model(model.write(folder)), Settings.exact(**settings))


def test_logits_beyond_16_bits(answer: Any, tmp_path: Path) -> None:
    assert answer.startswith("RuntimeError: Encountered inf in predicted array")
    large = labelled(LARGE_LOGITS, tmp_path / "large").labels
    # Logits that are all as many times larger have the same largest one.
    small = labelled(replace(LARGE_LOGITS, spread=3.0), tmp_path / "small").labels
    np.testing.assert_array_equal(large, small)
    assert np.bincount(large.ravel()).min() > 500


def test_not_a_number(answer: Any, tmp_path: Path) -> None:
    assert answer == [0]
    with pytest.raises(CaseError, match="channel 0 has 1 voxels that are NaN"):
        labelled(RandomModel(), tmp_path, BROKEN)


def test_no_data(answer: Any, tmp_path: Path) -> None:
    assert answer == [True, False]
    with pytest.raises(
        CaseError, match=r'channel 0 has 1 voxels .* "no data"; the first is \(Z, Y, X\) \(10, 10, 10\)'
    ):
        labelled(RandomModel(), tmp_path, NO_DATA)


def test_an_axis_without_voxels(answer: Any, tmp_path: Path) -> None:
    assert answer.startswith("ValueError: zero-size array")
    with pytest.raises(CaseError, match=r"the image would become \(0, 21, 22\) voxels"):
        labelled(COARSE, tmp_path)


def test_only_fold_all(answer: Any, tmp_path: Path) -> None:
    assert answer.startswith("UnboundLocalError: ")
    assert labelled(ONLY_ALL, tmp_path).labels.max() == 2


def test_mirroring_without_axes(answer: Any, tmp_path: Path) -> None:
    assert answer == "ValueError: max() arg is an empty sequence"
    mirrored = labelled(UNMIRRORED, tmp_path / "mirrored", mirror=True).labels
    np.testing.assert_array_equal(mirrored, labelled(UNMIRRORED, tmp_path / "plain", mirror=False).labels)


def test_an_order_for_torch(answer: Any, tmp_path: Path) -> None:
    assert answer.startswith("TypeError: resample_torch_fornnunet() got an unexpected keyword argument 'order'")
    ordered = labelled(ORDER_FOR_TORCH, tmp_path / "ordered").labels
    plain = labelled(replace(ORDER_FOR_TORCH, resampling_options={}), tmp_path / "plain").labels
    np.testing.assert_array_equal(ordered, plain)


def test_first_stage_missing(answer: Any, tmp_path: Path) -> None:
    assert answer.startswith("RuntimeError: ")
    assert "to have 3 channels, but got 1 channels" in answer
    folder = CASCADE.write(tmp_path)
    (folder.parent / CASCADE.first_stage.folder_name).rename(tmp_path / "elsewhere")
    with pytest.raises(CaseError, match="needs the labels of 3d_lowres"):
        segment(Case(CUBE, MILLIMETRES), load_model(folder))


def test_first_stage_of_8_bits(answer: Any, tmp_path: Path) -> None:
    assert answer == "OverflowError: Python integer -1 out of bounds for uint8"
    model, case = load_model(CASCADE.write(tmp_path)), Case(CUBE, MILLIMETRES)
    first_stage = segment(case, model).first_stage.labels
    found = [segment(case, model, first_stage=first_stage.astype(kind)).labels for kind in (np.uint8, np.int64)]
    np.testing.assert_array_equal(*found)
    np.testing.assert_array_equal(found[0], segment(case, model).labels)


def test_channels_in_one_file(answer: Any, tmp_path: Path) -> None:
    assert [name for name in READERS if answer[name] == "AssertionError: "] == ["SimpleITKIO"]
    assert all("Error: " in answer[name] for name in READERS)
    write_image(tmp_path / "channels.nii.gz", np.concatenate([CUBE, CUBE]), affine_of((1.0, 1.5, 2.0)), planar=False)
    case = read_case(tmp_path / "channels.nii.gz")
    assert case.channels.shape == (2, 20, 21, 22)
    path = write_labels(tmp_path / "labels.nii.gz", np.ones(case.shape, dtype=np.uint8), case)
    assert read_labels(path).shape == (20, 21, 22)


def test_planes(answer: Any, tmp_path: Path) -> None:
    assert answer["SimpleITKIO"] == [1.5 * 999, 1.5, 1.0]
    assert all("Error: " in answer[name] for name in READERS[1:])
    shape = {}
    for name, sign in (("as it is", 1.0), ("turned", -1.0)):
        write_image(tmp_path / f"{name}.nii.gz", CUBE[:, :1], affine_of((1.0, 1.0, 1.0), np.diag([sign, 1, 1])), True)
        for reader in ("SimpleITKIO", "NibabelIOWithReorient"):
            model = RandomModel((16, 16), (1.0, 1.0), reader=reader)
            result = segment(read_case(tmp_path / f"{name}.nii.gz"), load_model(model.write(tmp_path / name / reader)))
            shape[name, reader] = result.labels
    np.testing.assert_array_equal(shape["as it is", "SimpleITKIO"], shape["as it is", "NibabelIOWithReorient"])
    assert (shape["turned", "SimpleITKIO"] != shape["turned", "NibabelIOWithReorient"]).any()


def test_sheared_images(answer: Any, tmp_path: Path) -> None:
    import nibabel as nib

    assert all("only supports orthonormal direction cosines" in answer[name] for name in READERS[:2])
    assert answer["NibabelIO"] == answer["NibabelIOWithReorient"]
    nib.save(nib.Nifti1Image(CUBE[0].T, SHEARED), tmp_path / "sheared.nii.gz")
    np.testing.assert_allclose(read_case(tmp_path / "sheared.nii.gz").spacing_mm, answer["NibabelIO"], atol=1e-6)


def test_labels_above_255(answer: Any, tmp_path: Path) -> None:
    assert answer == {name: 43 if name == "SimpleITKIOWithReorient" else 299 for name in READERS}
    case = Case(CUBE, MILLIMETRES, np.eye(4))
    path = write_labels(tmp_path / "labels.nii.gz", np.full(case.shape, 299, dtype=np.uint16), case)
    assert read_labels(path).max() == 299


def test_region_values_above_255(answer: Any, tmp_path: Path) -> None:
    assert answer == [0, 1, 300 - 256]
    assert np.unique(labelled(REGION_300, tmp_path).labels).tolist() == [0, 1, 300]


def test_micrometres(answer: Any, tmp_path: Path) -> None:
    case = contradicting(tmp_path, "micrometres")
    converted, taken = [0.002, 0.0015, 0.001], [2.0, 1.5, 1.0]
    assert answer == {name: converted if name.startswith("SimpleITK") else taken for name in READERS}
    for name in READERS:
        seen = case.seen_by(name)
        np.testing.assert_allclose(seen.spacing_mm, answer[name], rtol=1e-6)
        assert seen.voxel_ml == pytest.approx(np.prod(converted) / 1000)
        assert len(seen.notes) == (0 if name.startswith("SimpleITK") else 1)


def test_long_quaternions(answer: Any, tmp_path: Path) -> None:
    case = contradicting(tmp_path, "quaternion too long")
    assert [answer[name] for name in READERS[:2]] == [[2.0, 1.5, 1.0]] * 2
    assert all("w2 should be positive" in answer[name] for name in READERS[2:])
    for name in READERS:
        assert case.seen_by(name).spacing_mm == (2.0, 1.5, 1.0)
        np.testing.assert_allclose(case.seen_by(name).affine, np.diag([-1.0, -1.5, 2.0, 1.0]), atol=1e-6)


def test_singular_forms(answer: Any, tmp_path: Path) -> None:
    case = contradicting(tmp_path, "singular sform, and a qform")
    assert [answer[name] for name in READERS[:2]] == [[2.0, 1.5, 1.0]] * 2
    assert all("Error: " in answer[name] for name in READERS[2:])
    plain, turning = (load_model(RandomModel(reader=name).write(tmp_path / name)) for name in READERS[2:])
    assert segment(case, plain).save(tmp_path / "labels.nii.gz").is_file()
    with pytest.raises(CaseError, match="scan does not say how it lies in space, but this model turns images to RAS"):
        segment(case, turning)


def test_json_beside_a_tiff(answer: Any, tmp_path: Path) -> None:
    numbered, unnumbered = TIFF_NAMES
    assert answer == {numbered: [2.0, 1.5, 1.0], unnumbered: [1.0, 1.0, 1.0]}
    model = load_model(RandomModel(reader="Tiff3DIO").write(tmp_path))
    write_spacing(tmp_path / "cells.json", (2.0, 1.5, 1.0))
    for name in TIFF_NAMES:
        write_image(tmp_path / f"{name}.tif", CUBE, np.eye(4).tolist(), planar=False)
        assert plan_geometry(read_case(tmp_path / f"{name}.tif"), model).spacing_mm == (2.0, 1.5, 1.0)


def test_values_left_out(answer: Any, tmp_path: Path) -> None:
    assert answer == [0, 1, 2]
    result = labelled(GAPS, tmp_path)
    assert np.unique(result.labels).tolist() == [0, 1, 2]
    assert result.label_names == {0: "background", 1: "liver", 2: "kidney"}
