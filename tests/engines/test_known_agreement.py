"""What is remembered of an image, and what is not believed."""

from pathlib import Path

import numpy as np
import pytest

from napari_nnunet_cpu.engines.agreement import Agreement
from napari_nnunet_cpu.engines.int8 import known_agreement
from napari_nnunet_cpu.engines.int8.known_agreement import hash_of_crops, recall_agreement, remember_agreement

FOUND = Agreement("liver", 0.987654321, 0.99)
KEYS = ["a" * 64, "b" * 64]


@pytest.mark.usefixtures("cache")
def test_what_was_found_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recall_agreement(KEYS, "image") is None
    remember_agreement(KEYS, "image", FOUND)
    assert recall_agreement(KEYS, "image") == FOUND
    assert recall_agreement(KEYS, "another") is None
    assert recall_agreement(KEYS[::-1], "image") is None
    monkeypatch.setattr(known_agreement, "this_computer", lambda: ["another"])
    assert recall_agreement(KEYS, "image") is None


def test_a_network_that_was_calibrated_anew_is_another_one(cache: Path) -> None:
    folders = [cache / "openvino" / key[:32] for key in KEYS]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "sha256.json").write_text("one")
    remember_agreement(KEYS, "image", FOUND)
    assert recall_agreement(KEYS, "image") == FOUND
    (folders[1] / "sha256.json").write_text("other")
    assert recall_agreement(KEYS, "image") is None


@pytest.mark.parametrize(
    "text", ["[]", "{}", "nonsense", '{"worst": "liver", "dice": "1", "voxels": 1.0}', '{"worst": 1, "dice": 1.0}']
)
def test_a_damaged_document_is_not_believed(cache: Path, text: str) -> None:
    remember_agreement(KEYS, "image", FOUND)
    (file,) = (cache / "agreement").iterdir()
    file.write_text(text)
    assert recall_agreement(KEYS, "image") is None


def test_every_voxel_and_the_shapes_count() -> None:
    parts = [np.zeros((1, 4, 4, 4), np.float32), np.ones((1, 4, 4, 4), np.float32)]
    names = {hash_of_crops(parts), hash_of_crops(parts[::-1]), hash_of_crops(parts[:1]), hash_of_crops([])}
    parts[1][0, 3, 2, 1] = 2
    names |= {hash_of_crops(parts), hash_of_crops(part.reshape(1, 2, 8, 4) for part in parts)}
    assert len(names) == 6
