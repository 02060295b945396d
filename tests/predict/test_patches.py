"""What the network is given: parts of the image, with zeros around it where they reach over its edge."""

import numpy as np
import pytest

from napari_nnunet_cpu.predict.passes.patches import Patches
from napari_nnunet_cpu.predict.tiles.grid import Grid

IMAGE = np.random.default_rng(0).normal(size=(2, 11, 5, 9)).astype(np.float32)


@pytest.mark.parametrize("patch", [(4, 8, 4), (8, 4)])
def test_patches_are_parts_of_the_padded_image(patch: tuple[int, ...]) -> None:
    grid = Grid.for_image((11, 5, 9), patch, 0.5)
    flat = len(patch) == 2
    widths = [(b, p - b - n) for b, p, n in zip(grid.before, grid.padded, grid.shape, strict=True)]
    padded = np.pad(IMAGE, [(0, 0), *widths])
    patches = Patches(IMAGE, grid, flat)
    for tile in grid.tiles():
        expected = padded[:, *tile.box.slices]
        assert np.array_equal(patches.of(tile), expected[:, 0] if flat else expected)
    size = tuple(length // 2 for length in patch)
    parts = list(patches.spread(size, 7))
    assert len(parts) == 7
    for part, box in zip(parts, grid.spread(size, 7), strict=True):
        assert part.flags.c_contiguous
        assert np.array_equal(part, padded[:, *box.slices][:, 0] if flat else padded[:, *box.slices])


def test_parts_that_lie_in_the_padding_are_zero() -> None:
    """A plan's patch may be several times as thick as an image of a few slices."""
    image = np.ones((1, 2, 8, 8), np.float32)
    grid = Grid.for_image((2, 8, 8), (40, 8, 8), 0.5)
    parts = list(Patches(image, grid, flat=False).spread((16, 8, 8), 9))
    assert sorted(part.sum() for part in parts) == [0, 0, image.sum()]
