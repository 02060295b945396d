"""What people write for axes, and what is guessed; no window, no layer."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.viewer.image.axes import guess_axes, parse_axes

VOLUME = np.arange(2 * 3 * 4).reshape(2, 3, 4)  # (Z, Y, X) in the file


@pytest.mark.parametrize("text", ["Z, Y, X", "ZYX", "z,y,x", " Z Y\tX ", "Z,Y,X,"])
def test_ways_to_write_the_same(text: str) -> None:
    assert str(parse_axes(text, (2, 3, 4))) == "Z, Y, X"


def test_a_minus_may_be_a_typographic_one() -> None:
    assert str(parse_axes("\N{MINUS SIGN}Z, Y, -X", (2, 3, 4))) == "-Z, Y, -X"


@pytest.mark.parametrize(
    ("text", "in_layer"),
    [
        ("Z, Y, X", VOLUME),
        ("X, Y, Z", VOLUME.transpose(2, 1, 0)),
        ("Y, Z, X", VOLUME.transpose(1, 0, 2)),
        ("-Z, Y, X", VOLUME[::-1]),
        ("X, -Z, -Y", VOLUME.transpose(2, 0, 1)[:, ::-1, ::-1]),
        ("S, A, R", VOLUME),
    ],
)
def test_the_order_leads_to_the_file_and_back(text: str, in_layer: np.ndarray) -> None:
    axes = parse_axes(text, in_layer.shape)
    np.testing.assert_array_equal(axes.order.undo(in_layer), VOLUME)
    np.testing.assert_array_equal(axes.order.apply(VOLUME), in_layer)


@pytest.mark.parametrize(
    ("text", "in_layer"),
    [("Y, X", VOLUME[0]), ("X, Y", VOLUME[0].T), ("Y, -X", VOLUME[0][:, ::-1]), ("-X, Y", VOLUME[0].T[::-1])],
)
def test_planes_have_no_z(text: str, in_layer: np.ndarray) -> None:
    axes = parse_axes(text, in_layer.shape)
    assert axes.planar
    np.testing.assert_array_equal(axes.order.undo(in_layer[None]), VOLUME[:1])
    np.testing.assert_array_equal(axes.order.apply(VOLUME[:1])[0], in_layer)


def test_time_and_channels_are_told_from_space() -> None:
    axes = parse_axes("T, X, C, -Y, Z", (9, 4, 2, 3, 5))
    assert (axes.time, axes.channel, axes.space) == (0, 2, (1, 3, 4))
    assert axes.order.axes == (2, 1, 0)
    assert axes.order.flipped == (False, True, False)
    assert not axes.planar
    axes = parse_axes("T, Y, X", (9, 4, 2))
    assert (axes.time, axes.channel, axes.space) == (0, None, (1, 2))
    assert axes.planar


@pytest.mark.parametrize("text", ["S, A, R", "I, P, L", "A, L, S", "R, S, P"])
def test_directions_make_an_affine(text: str) -> None:
    affine = parse_axes(text, (2, 3, 4)).affine((2.0, 1.5, 1.0))
    assert nib.aff2axcodes(affine) == tuple(text.replace(", ", "")[::-1])  # x, the layer's last axis, comes first
    np.testing.assert_allclose(nib.affines.voxel_sizes(affine), (1.0, 1.5, 2.0))
    np.testing.assert_array_equal(affine[:, 3], (0, 0, 0, 1))


def test_letters_of_the_file_make_none() -> None:
    assert parse_axes("Z, Y, X", (2, 3, 4)).affine((1.0, 1.0, 1.0)) is None


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("", (2, 3, 4), "write a letter for each axis"),
        ("Z, Y, 1", (2, 3, 4), "write a letter for each axis"),
        ("Z; Y; X", (2, 3, 4), "write a letter for each axis"),
        ("--Z, Y, X", (2, 3, 4), "write a letter for each axis"),
        ("Q, Y, X", (2, 3, 4), "Q is not one of T, C, Z, Y, X"),
        ("Y, X", (2, 3, 4), "2 axes, but the image has 3, of shape (2, 3, 4)"),
        ("T, Z, Y, X", (2, 3, 4), "4 axes, but the image has 3"),
        ("Z, Y, Y", (2, 3, 4), "Y twice"),
        ("T, Z, X", (2, 3, 4), "without Y"),
        ("T, C, Z", (2, 3, 4), "without Y"),
        ("-T, Y, X", (2, 3, 4), "minus before T; only Z, Y and X"),
        ("-C, Y, X", (2, 3, 4), "minus before C; only Z, Y and X"),
        ("-S, A, R", (2, 3, 4), "minus before S; name the opposite direction"),
        ("S, I, R", (2, 3, 4), "one of R and L, one of A and P, and one of S and I"),
        ("T, A, R", (2, 3, 4), "one of R and L, one of A and P, and one of S and I"),
        ("S, A, R, Z", (2, 3, 4, 5), "Z among directions"),
        ("S, A, X", (2, 3, 4), "one of R and L"),
    ],
)
def test_what_is_wrong_is_named(text: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_axes(text, shape)
    message = str(caught.value)
    assert words in message
    assert repr(text) in message
    assert "\n" not in message


@given(st.text(alphabet="TCZYXRLAPSI-, q1", max_size=12), st.integers(2, 5))
def test_any_text_is_axes_or_an_error(text: str, ndim: int) -> None:
    try:
        axes = parse_axes(text, (3,) * ndim)
    except SettingsError:
        return
    assert len(axes.letters) == ndim
    assert len(axes.space) in (2, 3)
    assert parse_axes(str(axes), (3,) * ndim) == axes


@pytest.mark.parametrize(
    ("shape", "options", "found", "told"),
    [
        ((30, 40), {}, "Y, X", False),
        ((20, 30, 40), {}, "Z, Y, X", False),
        ((2, 20, 30, 40), {}, "T, Z, Y, X", False),
        ((2, 20, 30, 40), {"channels": 2}, "C, Z, Y, X", False),
        ((20, 2, 30, 40), {"channels": 2}, "Z, C, Y, X", False),
        ((20, 30, 40, 2), {"channels": 2}, "Z, Y, X, C", False),
        ((2, 2, 30, 40), {"channels": 2}, "C, Z, Y, X", False),
        ((20, 2, 30, 40), {"channels": 3}, "T, Z, Y, X", False),
        ((2, 30, 40), {"channels": 2}, "Z, Y, X", False),
        ((2, 30, 40), {"channels": 2, "planar": True}, "C, Y, X", False),
        ((30, 40, 2), {"channels": 2, "planar": True}, "Y, X, C", False),
        ((7, 2, 30, 40), {"channels": 2, "planar": True}, "Z, C, Y, X", False),
        ((7, 30, 40), {"planar": True}, "Z, Y, X", False),
        ((9, 2, 20, 30, 40), {"channels": 2}, "T, C, Z, Y, X", False),
        ((9, 20, 2, 30, 40), {"channels": 2}, "T, Z, C, Y, X", False),
        ((9, 5, 20, 30, 40), {"channels": 2}, "T, C, Z, Y, X", False),
        ((20, 30, 40), {"labels": ("x", "y", "z")}, "X, Y, Z", True),
        ((20, 30, 40), {"labels": ("Time", "Row", "Column")}, "T, Y, X", True),
        ((20, 30, 40), {"labels": ("-3", "-2", "-1")}, "Z, Y, X", False),
        ((20, 30, 40), {"labels": ("axis -3", "y", "x")}, "Z, Y, X", False),
        ((20, 30, 40), {"labels": ("y", "y", "x")}, "Z, Y, X", False),
        ((20, 30, 40), {"labels": ("t", "c", "z")}, "Z, Y, X", False),
        ((2, 20, 30, 40), {"labels": ("channel", "z", "y", "x"), "channels": 2}, "C, Z, Y, X", True),
        ((2, 20, 30, 40), {"labels": ("channel", "z", "y", "x")}, "T, Z, Y, X", True),
        ((1, 20, 30, 40), {"labels": ("channel", "z", "y", "x")}, "C, Z, Y, X", True),
        ((5, 2, 20, 30, 40), {"labels": ("t", "c", "z", "y", "x")}, "T, C, Z, Y, X", True),
        ((20, 30, 40), {"known": ("Z", "-Y", "-X"), "labels": ("x", "y", "z")}, "Z, -Y, -X", True),
        ((20, 30, 40, 5), {"known": ("Z", "-Y", "-X", None)}, "Z, -Y, -X, T", True),
        ((20, 30, 40, 5), {"known": ("Z", "-Y", "-X", None), "channels": 5}, "Z, -Y, -X, C", True),
    ],
)  # fmt: skip
def test_guesses(shape: tuple[int, ...], options: dict, found: str, told: bool) -> None:
    axes, was_told = guess_axes(shape, **options)
    assert str(axes) == found
    assert was_told is told
    assert parse_axes(str(axes), shape) == axes
