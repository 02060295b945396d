"""What is written is what nnU-Net reads, and a save that fails leaves the folder as it was."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from contradictions import CONTRADICTIONS, write_contradiction
from hypothesis import given
from hypothesis import strategies as st

from napari_nnunet_cpu.cases import Case, raw_dataset, read_case, read_labels, write_labels
from napari_nnunet_cpu.cases.case import SpacingSource, planar_spacing
from napari_nnunet_cpu.cases.raw_dataset import RawDataset
from napari_nnunet_cpu.errors import CaseError, NNUNetCPUError, OutputError, SettingsError

SHAPE = (4, 5, 6)
ORGANS = {"background": 0, "liver": 1, "kidney": 2}
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
AFFINE = np.array([[0, 0, -2, 9], [1, 0, 0, -4], [0, -1.25, 0, 3], [0, 0, 0, 1.0]])
SHEARED = np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])


def a_case(seed: int = 0, channels: int = 1, name: str = "patient", dtype: str = "float32", **place) -> Case:
    values = np.random.default_rng(seed).uniform(0, 250, (channels, *SHAPE)).astype(dtype)
    return Case(values, **({"spacing_mm": (2.0, 1.25, 1.0), "affine": AFFINE, "name": name} | place))


def a_plane(seed: int = 0, source: SpacingSource = SpacingSource.ASSUMED, name: str = "slide", dtype="u1") -> Case:
    values = np.random.default_rng(seed).uniform(0, 250, (1, 1, 7, 3)).astype(dtype)
    spacing = (1.0, 1.0) if source is SpacingSource.ASSUMED else (0.5, 0.25)
    return Case(values, planar_spacing(spacing), None, name, source, planar=True)


def labels_for(case: Case, seed: int = 1, below: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, below, case.shape)


def add(folder: Path, case: Case, labels: np.ndarray | None = None, **options) -> str:
    channels = [f"channel {number}" for number in range(len(case.channels))]
    return RawDataset(folder).add(
        case,
        labels_for(case) if labels is None else labels,
        **({"channel_names": channels, "label_values": ORGANS} | options),
    )


def document(folder: Path) -> dict:
    return json.loads((folder / "dataset.json").read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_volume_lies_where_its_image_does(tmp_path):
    case = a_case(channels=2)
    labels = labels_for(case)
    assert add(tmp_path / "new" / "session", case, labels, channel_names=["T1", "T2"]) == "patient"
    folder = tmp_path / "new" / "session"
    assert sorted(contents(folder)) == [
        "dataset.json",
        "imagesTr/patient_0000.nii.gz",
        "imagesTr/patient_0001.nii.gz",
        "labelsTr/patient.nii.gz",
    ]
    for number in range(2):
        image = nib.load(folder / "imagesTr" / f"patient_{number:04}.nii.gz")
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), case.channels[number].T)
        np.testing.assert_allclose(image.affine, AFFINE)
    stored = nib.load(folder / "labelsTr" / "patient.nii.gz")
    assert stored.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asanyarray(stored.dataobj), labels.T)
    np.testing.assert_allclose(stored.affine, AFFINE)
    again = read_case(*sorted((folder / "imagesTr").iterdir()))
    np.testing.assert_array_equal(again.channels, case.channels)
    np.testing.assert_array_equal(read_labels(folder / "labelsTr" / "patient.nii.gz", again), labels)
    assert document(folder) == {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": ORGANS,
        "file_ending": ".nii.gz",
        "numTraining": 1,
    }
    assert not list(folder.glob(".*"))


def test_without_an_affine_the_spacing_is_kept(tmp_path):
    add(tmp_path, a_case(affine=None))
    for path in (tmp_path / "imagesTr" / "patient_0000.nii.gz", tmp_path / "labelsTr" / "patient.nii.gz"):
        np.testing.assert_allclose(nib.load(path).affine, np.diag([1.0, 1.25, 2.0, 1.0]))


@pytest.mark.parametrize("dtype", ["bool", "u1", ">i2", "u2", "i4", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("make", [a_case, a_plane], ids=["volume", "plane"])
def test_intensities_of_every_type(tmp_path, make, dtype):
    case = make(dtype=dtype)
    add(tmp_path, case)
    (image,) = (tmp_path / "imagesTr").iterdir()
    expected = case.channels if dtype == "f8" and not case.planar else case.channels.astype(np.float32)
    np.testing.assert_array_equal(read_case(image).channels, expected)
    assert add(tmp_path, case) == case.name
    assert document(tmp_path)["numTraining"] == 1


def test_a_plane_without_a_stated_spacing_becomes_tiff(tmp_path):
    case = a_plane()
    labels = labels_for(case)
    assert add(tmp_path, case, labels) == "slide"
    image, stored = tmp_path / "imagesTr" / "slide_0000.tif", tmp_path / "labelsTr" / "slide.tif"
    again = read_case(image)
    assert again.planar
    np.testing.assert_array_equal(again.channels, case.channels)
    np.testing.assert_array_equal(read_labels(stored, case), labels)
    assert document(tmp_path)["file_ending"] == ".tif"
    assert "overwrite_image_reader_writer" not in document(tmp_path)


@pytest.mark.parametrize(
    ("source", "reader", "ending"),
    [
        (SpacingSource.STATED, None, ".nii.gz"),
        (SpacingSource.STATED, "NaturalImage2DIO", ".tif"),
        (SpacingSource.PIXEL_SIZE, None, ".tif"),
        (SpacingSource.PIXEL_SIZE, "SimpleITKIO", ".nii.gz"),
        (SpacingSource.PIXEL_SIZE, "NaturalImage2DIO", ".tif"),
    ],
)
def test_the_ending_of_planes_keeps_what_the_reader_looks_at(tmp_path, source, reader, ending):
    case = a_plane(source=source)
    assert add(tmp_path, case, reader=reader) == add(tmp_path, case, reader=reader) == "slide"
    assert document(tmp_path)["file_ending"] == ending
    stored = read_case(tmp_path / "imagesTr" / f"slide_0000{ending}")
    assert stored.planar
    np.testing.assert_allclose(stored.spacing_mm, case.spacing_mm)


@pytest.mark.parametrize(
    ("reader", "affine", "named"),
    [
        (None, AFFINE, None),
        ("SimpleITKIO", AFFINE, None),
        ("Tiff3DIO", AFFINE, None),
        ("NibabelIO", AFFINE, "NibabelIO"),
        ("SimpleITKIOWithReorient", AFFINE, "SimpleITKIOWithReorient"),
        ("NibabelIOWithReorient", AFFINE, "NibabelIOWithReorient"),
        (None, SHEARED, "NibabelIO"),
        ("SimpleITKIOWithReorient", SHEARED, "NibabelIOWithReorient"),
    ],
)
def test_the_reader_is_named_where_nnunet_would_take_another(tmp_path, reader, affine, named):
    add(tmp_path, a_case(affine=affine), reader=reader)
    assert document(tmp_path).get("overwrite_image_reader_writer") == named


def test_a_sheared_image_changes_the_library_for_all(tmp_path):
    add(tmp_path, a_case())
    add(tmp_path, a_case(1, affine=SHEARED))
    assert document(tmp_path)["overwrite_image_reader_writer"] == "NibabelIO"
    add(tmp_path, a_case(2))
    assert document(tmp_path)["overwrite_image_reader_writer"] == "NibabelIO"
    assert document(tmp_path)["numTraining"] == 3


def test_saving_again_replaces_the_labels(tmp_path):
    case = a_case()
    add(tmp_path, case, labels_for(case, 1))
    before = contents(tmp_path)
    assert add(tmp_path, case, labels_for(case, 2)) == "patient"
    after = contents(tmp_path)
    assert {path for path in after if after[path] != before[path]} == {"labelsTr/patient.nii.gz"}
    np.testing.assert_array_equal(read_labels(tmp_path / "labelsTr" / "patient.nii.gz", case), labels_for(case, 2))


def test_two_images_of_one_name_are_two_cases(tmp_path):
    assert [add(tmp_path, a_case(seed)) for seed in (0, 1, 2, 1)] == ["patient", "patient_2", "patient_3", "patient_2"]
    assert document(tmp_path)["numTraining"] == 3
    names = [path.name for path in sorted((tmp_path / "labelsTr").iterdir())]
    assert names == ["patient.nii.gz", "patient_2.nii.gz", "patient_3.nii.gz"]
    np.testing.assert_array_equal(
        read_case(tmp_path / "imagesTr" / "patient_2_0000.nii.gz").channels, a_case(1).channels
    )


def test_the_second_channel_tells_images_apart(tmp_path):
    first, second = a_case(0, channels=2), a_case(0, channels=2)
    second.channels[1, 0, 0, 0] += 1
    assert add(tmp_path, first) == "patient"
    assert add(tmp_path, second) == "patient_2"


def test_an_image_on_another_grid_is_refused(tmp_path):
    add(tmp_path, a_case())
    before = contents(tmp_path)
    with pytest.raises(CaseError, match=r"patient is in the dataset with spacing .*remove .*, or give .* another name"):
        add(tmp_path, a_case().with_spacing((3.0, 1.25, 1.0)))
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("patient_0000.nii.gz", "patient"),
        ("scan_2024", "scan_2024"),
        ("../a b/c:d", "a_b_c_d"),
        ("Größe [1]", "Größe_1"),
        ("...", "case"),
        ("x" * 300, "x" * 50),
    ],
)
def test_names_become_safe(tmp_path, name, identifier):
    assert add(tmp_path, a_case(name=name)) == identifier
    assert add(tmp_path, a_case(1), name=name) == f"{identifier}_2"


@given(st.text())
def test_every_name_is_that_of_a_file(name):
    safe = raw_dataset._safe(name)
    assert safe
    assert safe == Path(safe).name
    assert "." not in safe
    assert len(f"{safe}_9999_0000.nii.gz".encode()) <= 255


def test_labels_of_another_case_are_never_overwritten(tmp_path):
    (tmp_path / "labelsTr").mkdir()
    mine = write_labels(tmp_path / "labelsTr" / "patient.nii.gz", np.ones(SHAPE, np.uint8), a_case())
    before = mine.read_bytes()
    assert add(tmp_path, a_case()) == "patient_2"
    assert mine.read_bytes() == before
    assert document(tmp_path)["numTraining"] == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(SHAPE, np.float32), "labels must be integers, found dtype float32"),
        (np.zeros((4, 6, 5), int), r"labels have shape \(4, 6, 5\), the image \(Z, Y, X\) has \(4, 5, 6\)"),
        (
            np.full(SHAPE, 7),
            "120 voxels have label 7, which has no name .*; paint them as one of: background 0, liver 1, kidney 2$",
        ),
        (np.full(SHAPE, -1), "label -1"),
        (np.where(np.arange(6) < 2, 300, np.full(SHAPE, 2**40)), f"label 300, {2**40}"),
    ],
    ids=["floats", "shape", "unnamed", "negative", "large"],
)
def test_labels_that_do_not_fit_write_nothing(tmp_path, labels, message):
    with pytest.raises(CaseError, match=message):
        add(tmp_path / "session", a_case(), labels)
    assert not (tmp_path / "session").exists()


@pytest.mark.parametrize(
    ("values", "order", "message"),
    [
        ({"liver": 1}, None, 'must name "background" as 0, found nothing'),
        ({"background": 1, "liver": 0}, None, 'must name "background" as 0, found 1'),
        ({"background": 0, "liver": 2}, None, r"without gaps, found \[0, 2\]; renumber"),
        ({"background": 0, "ignore": 1, "liver": 2}, None, '"ignore" must be the highest label'),
        ({"background": 0, "liver": 1, "ignore": 1}, None, "a value of its own"),
        (REGIONS, None, "3 regions need a regions_class_order of as many values, found None"),
        (REGIONS, (1, 2), r"found \(1, 2\)"),
    ],
)
def test_labels_that_nnunet_refuses(tmp_path, values, order, message):
    with pytest.raises(SettingsError, match=message):
        add(tmp_path / "session", a_case(), label_values=values, regions_class_order=order)
    assert not (tmp_path / "session").exists()


def test_regions_hold_every_value_that_they_unite(tmp_path):
    case = a_case()
    labels = labels_for(case, below=4)
    add(tmp_path, case, labels, label_values=REGIONS, regions_class_order=(1, 2, 3))
    assert document(tmp_path)["labels"] == REGIONS
    assert list(document(tmp_path)["labels"]) == list(REGIONS)
    assert document(tmp_path)["regions_class_order"] == [1, 2, 3]
    np.testing.assert_array_equal(read_labels(tmp_path / "labelsTr" / "patient.nii.gz", case), labels)
    swapped = {name: REGIONS[name] for name in ("background", "core", "whole", "enhancing")}
    for values, order in ((REGIONS, (1, 3, 2)), (swapped, (1, 2, 3))):
        with pytest.raises(OutputError, match="has another (regions_class_order|labels)"):
            add(tmp_path, a_case(1), label_values=values, regions_class_order=order)


def test_ignored_voxels_and_many_labels(tmp_path):
    values = {"background": 0} | {f"part {value}": value for value in range(1, 300)} | {"ignore": 300}
    case = a_case()
    labels = np.full(SHAPE, 300)
    add(tmp_path, case, labels, label_values=values)
    np.testing.assert_array_equal(read_labels(tmp_path / "labelsTr" / "patient.nii.gz", case), labels)


def test_the_number_of_channels_must_fit(tmp_path):
    with pytest.raises(CaseError, match=r"patient has 1 channels, but \['T1', 'T2'\] are named"):
        add(tmp_path, a_case(), channel_names=["T1", "T2"])


@pytest.mark.parametrize(
    ("case", "options", "message"),
    [
        (a_case(1), {"channel_names": ["CT"]}, "has another channel_names, {'0': 'channel 0'} instead of {'0': 'CT'}"),
        (
            a_case(1),
            {"label_values": {"background": 0, "liver": 1, "spleen": 2}},
            "has another labels, .*kidney.*spl",
        ),
        (a_case(1), {"reader": "NibabelIOWithReorient"}, "'SimpleITKIO' instead of 'NibabelIOWithReorient'"),
        (a_plane(), {}, "has another file_ending, '.nii.gz' instead of '.tif'"),
        (a_plane(source=SpacingSource.STATED), {}, "has images of 3 axes, but slide has 2"),
    ],
    ids=["channels", "labels", "reader", "ending", "plane"],
)
def test_a_folder_of_another_dataset_is_refused(tmp_path, case, options, message):
    add(tmp_path, a_case())
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=message) as refused:
        add(tmp_path, case, **options)
    assert "\n" not in str(refused.value)
    assert "choose another folder" in str(refused.value)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"dataset": {}}'])
def test_a_folder_that_is_not_understood(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(OutputError, match="choose another folder"):
        RawDataset(tmp_path)
    with pytest.raises(OutputError, match="is not a folder"):
        RawDataset(tmp_path / "dataset.json")


def test_what_else_a_dataset_says_is_kept(tmp_path):
    add(tmp_path, a_case())
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"licence": "CC0", **document(tmp_path), "overwrite_image_reader_writer": "None"}))
    add(tmp_path, a_case(1))
    assert document(tmp_path)["licence"] == "CC0"
    assert document(tmp_path)["numTraining"] == 2


class Failing:
    """Calls through, but fails at one of the calls."""

    def __init__(self, original, at: int) -> None:
        self.original, self.at, self.calls = original, at, 0

    def __call__(self, *arguments):
        self.calls += 1
        if self.calls - 1 == self.at:
            raise OSError(28, "No space left on device")
        return self.original(*arguments)


def fail_at(patch: pytest.MonkeyPatch, where: str, at: int) -> Failing:
    """Let the `at`-th write, or move of a file to its place, fail."""
    if where == "write":
        failing = Failing(raw_dataset.write_array, at)
        patch.setattr(raw_dataset, "write_array", failing)
    else:
        failing = Failing(Path.replace, at)
        patch.setattr(Path, "replace", lambda path, target: failing(path, target))
    return failing


# A new case of two channels is three files; those and dataset.json are moved.
FAULTS = [("write", 0), ("write", 1), ("write", 2), ("move", 0), ("move", 1), ("move", 2), ("move", 3)]


@pytest.mark.parametrize(("where", "at"), FAULTS)
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_a_failed_save_leaves_the_folder_as_it_was(tmp_path, monkeypatch, where, at, first):
    if not first:
        add(tmp_path, a_case(channels=2))
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        fail_at(patch, where, at)
        with pytest.raises(OutputError, match=r"^\S+( patient(_2)?)? can't be (saved|written): No space left"):
            add(tmp_path, a_case(1, channels=2))
    assert contents(tmp_path) == before
    assert add(tmp_path, a_case(1, channels=2)) == ("patient" if first else "patient_2")
    assert document(tmp_path)["numTraining"] == (1 if first else 2)


def test_the_faults_above_are_all(tmp_path, monkeypatch):
    counts = {}
    for where in ("write", "move"):
        with monkeypatch.context() as patch:
            failing = fail_at(patch, where, at=-5)
            add(tmp_path / where, a_case(channels=2))
            counts[where] = failing.calls
    assert counts == {where: sum(one == where for one, _ in FAULTS) for where in ("write", "move")}


@pytest.mark.parametrize("where", ["write", "move"])
def test_labels_of_before_survive_a_failed_save(tmp_path, monkeypatch, where):
    case = a_case()
    add(tmp_path, case)
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        fail_at(patch, where, 0)
        with pytest.raises(NNUNetCPUError, match="No space left"):
            add(tmp_path, case, labels_for(case, 5))
    assert contents(tmp_path) == before


def test_labels_are_there_when_only_their_description_fails(tmp_path, monkeypatch):
    case = a_case()
    add(tmp_path, case)
    (tmp_path / "dataset.json").write_text(json.dumps(document(tmp_path) | {"numTraining": 7}))
    with monkeypatch.context() as patch:
        fail_at(patch, "move", 1)
        with pytest.raises(OutputError, match=r"dataset.json can't be written: No space left"):
            add(tmp_path, case, labels_for(case, 5))
    np.testing.assert_array_equal(read_labels(tmp_path / "labelsTr" / "patient.nii.gz", case), labels_for(case, 5))
    add(tmp_path, case)
    assert document(tmp_path)["numTraining"] == 1


class Killed(BaseException):
    """The process ends: nothing that comes after is done."""


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_killed_save_leaves_no_image_without_labels(tmp_path, monkeypatch, at):
    folder = tmp_path / "session"
    add(folder, a_case(channels=2))
    with monkeypatch.context() as patch:
        failing = Failing(Path.replace, at)

        def replace(path, target):
            if failing.calls == at:
                patch.setattr(Path, "unlink", lambda *_, **__: None)
                raise Killed
            return failing(path, target)

        patch.setattr(Path, "replace", replace)
        with pytest.raises(Killed):
            add(folder, a_case(1, channels=2))
    images = {path.name[: -len("_0000.nii.gz")] for path in (folder / "imagesTr").iterdir()}
    assert images <= {
        path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").iterdir() if path.name[0] != "."
    }
    assert document(folder)["numTraining"] <= len(images)
    add(folder, a_case(1, channels=2))
    names = {path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").glob("[!.]*")}
    images = {path.name for path in (folder / "imagesTr").iterdir()}
    complete = {name for name in names if {f"{name}_0000.nii.gz", f"{name}_0001.nii.gz"} <= images}
    assert document(folder)["numTraining"] == len(complete) == 2


def test_a_place_where_no_folder_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/session: patient can't be saved: Not a directory"):
        add(tmp_path / "file" / "session", a_case())


@pytest.mark.parametrize("text", ['{"channel_names": 5}', '{"channel_names": {"0": "channel 0"}, "labels": 3}'])
def test_a_dataset_json_of_another_kind(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    for values, order in ((ORGANS, None), (REGIONS, (1, 2, 3))):
        with pytest.raises(OutputError, match="has another (channel_names|labels)"):
            add(tmp_path, a_case(), label_values=values, regions_class_order=order)


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_nnunet_trains_at_the_spacing_that_it_would_have_read_in_the_image(tmp_path, kind):
    array = np.random.default_rng(0).uniform(0, 250, SHAPE[::-1]).astype("f4")
    case = read_case(write_contradiction(tmp_path / "scan.nii.gz", array, AFFINE, kind))
    folder = tmp_path / "session"
    assert add(folder, case.seen_by("NibabelIOWithReorient")) == add(folder, case) == "scan"
    for name in ("imagesTr/scan_0000", "labelsTr/scan"):
        stored = read_case(folder / f"{name}.nii.gz")
        for reader in ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"):
            ours, theirs = stored.seen_by(reader), case.seen_by(reader)
            assert ours.spacing_mm == theirs.spacing_mm
            np.testing.assert_array_equal(ours.to_world, theirs.to_world)


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_nnunet_trains_at_the_spacing_that_the_user_stated(tmp_path, kind):
    array = np.random.default_rng(0).uniform(0, 250, SHAPE[::-1]).astype("f4")
    case = read_case(write_contradiction(tmp_path / "scan.nii.gz", array, AFFINE, kind), spacing_mm=(4, 3, 2))
    add(tmp_path / "session", case.seen_by("NibabelIO"))
    for name in ("imagesTr/scan_0000", "labelsTr/scan"):
        stored = read_case(tmp_path / "session" / f"{name}.nii.gz")
        for reader in ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"):
            np.testing.assert_allclose(stored.seen_by(reader).spacing_mm, (4, 3, 2), rtol=1e-6)
