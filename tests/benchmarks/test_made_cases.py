import numpy as np
import pytest
from made_cases import RandomCase, check_names, plain_unet, write_case

from napari_nnunet_cpu import read_case
from napari_nnunet_cpu.errors import SettingsError

RANDOM = RandomCase(
    "", (12, 14, 16), (2.0, 1.5, 1.0), plain_unet((8, 8, 8), (2.0, 2.0, 2.0), (2, 4), 3), ("--step", "1")
)


def test_a_case_is_its_image_and_model(tmp_path):
    case = RANDOM.write("small", tmp_path)
    image = read_case(*case.images)
    assert (image.shape, image.spacing_mm) == ((12, 14, 16), (2.0, 1.5, 1.0))
    assert (case.name, case.options, case.ending) == ("small", ("--step", "1", "--agreement", "0"), ".nii.gz")
    assert (case.model.labels.heads, case.model.configuration.patch_size) == (3, (8, 8, 8))


def test_what_is_finished_is_taken_and_what_is_not_is_made_again(tmp_path):
    first = RANDOM.write("small", tmp_path)
    (checkpoint,) = first.model.checkpoints
    written = checkpoint.stat().st_mtime_ns
    assert RANDOM.write("small", tmp_path).model.checkpoints[0].stat().st_mtime_ns == written
    pixels = read_case(*first.images).channels
    (tmp_path / "finished").unlink()  # as after a bench that was interrupted
    checkpoint.write_bytes(b"half a file")
    again = RANDOM.write("small", tmp_path)
    assert again.model.weights_sha256 == first.model.weights_sha256
    np.testing.assert_array_equal(read_case(*again.images).channels, pixels)


def test_the_sample(tmp_path):
    case = write_case("sample", tmp_path)
    assert list(case.model.labels.names.values()) == ["background", "grey matter", "white matter"]


def test_no_such_case():
    with pytest.raises(SettingsError, match="unknown case '5-class': choose among 5-classes, 60-classes, 2d, sample"):
        check_names(["sample", "5-class"])
