import numpy as np
import pytest
from skimage.transform import resize

from napari_nnunet_cpu.boxes import Box
from napari_nnunet_cpu.export import Logits
from napari_nnunet_cpu.export.spline_labels import SplineExport
from napari_nnunet_cpu.models.labels import Labels
from napari_nnunet_cpu.prepare.resample import Resampler

SOURCE, SHAPE = (9, 8, 7), (6, 13, 11)
LOGITS = np.random.default_rng(0).normal(size=(4, *SOURCE)).astype(np.float32)
SMOOTH = np.stack([resize(head.astype(np.float64), SHAPE, 3, mode="edge", anti_aliasing=False) for head in LOGITS])
REGIONS = Labels({0: "background", 1: "a", 2: "b", 3: "c", 8: "d"}, 4, (2, 1, 8, 3))


def painted() -> np.ndarray:
    result = np.zeros(SHAPE, np.uint8)
    for head, value in zip(SMOOTH, (2, 1, 8, 3), strict=True):
        result[head > 0] = value
    return result


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(Labels({value: str(value) for value in range(4)}, 4), SMOOTH.argmax(axis=0)), (REGIONS, painted())],
    ids=["labels", "regions"],
)
def test_splines_are_those_of_skimage_and_any_box_can_be_had(labels: Labels, expected: np.ndarray) -> None:
    export = SplineExport(labels, Resampler(3, None, 0), SOURCE, SHAPE)
    asked = []

    def logits(box: Box) -> Logits:
        asked.append(box)
        return Logits(LOGITS * 3, np.full(SOURCE, 3, np.float32))

    for box in [Box.whole(SHAPE), Box((0, 1), (0, 13), (0, 11)), Box((2, 5), (3, 4), (0, 7))]:
        assert list(export.pieces(box)) == [box]
        assert export.needed(box) == Box.whole(SOURCE)
        found = export.labels(logits, box)
        assert np.array_equal(found, expected[box.slices])
        assert found.dtype == np.uint8
    assert asked == [Box.whole(SOURCE)] * 3
