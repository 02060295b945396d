"""The meaning of a layer's axes: typed by the user, stated by the layer, or guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.cases import Spacing, split_axes
from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.prepare import AxisOrder

_FILE = "ZYX"
# Axis in RAS+ mm (x, y, z) and sign: "L" runs towards the left, so against x.
_DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
_WORDS = {
    "T": ("t", "time", "frame", "frames"),
    "C": ("c", "ch", "channel", "channels"),
    "Z": ("z", "depth", "plane", "planes", "slice", "slices"),
    "Y": ("y", "row", "rows", "height"),
    "X": ("x", "column", "columns", "width"),
}
_LETTER_OF = {word: letter for letter, words in _WORDS.items() for word in words}
# Positions of a possible channel axis by the number of axes, the most probable first.
_CHANNEL_PLACES = {3: (0, 2), 4: (0, 1, 3), 5: (1, 2, 4, 0)}


@dataclass(frozen=True)
class Axes:
    """The meaning of a layer's axes, a letter for each.

    Letters are T (time), C (channel), and Z, Y, X as in the files that the model was trained on, Z the slowest. Instead
    of all of Z, Y, X, they may be the directions of the body along the axes: R or L, A or P, S or I. The layer is then
    assumed to be in file order.
    """

    letters: tuple[str, ...]
    backwards: tuple[bool, ...]  # against the axes of the file

    def __str__(self) -> str:
        return ", ".join(self._signed)

    @property
    def names(self) -> tuple[str | None, ...]:
        """The name of each axis, such as "-Y"; None for time and channels."""
        return tuple(None if name in ("T", "C") else name for name in self._signed)

    @property
    def _signed(self) -> list[str]:
        return [f"-{a}" if back else a for a, back in zip(self.letters, self.backwards, strict=True)]

    @property
    def time(self) -> int | None:
        """Index of the time axis; None without one."""
        return self.letters.index("T") if "T" in self.letters else None

    @property
    def channel(self) -> int | None:
        """Index of the channel axis; None without one."""
        return self.letters.index("C") if "C" in self.letters else None

    @property
    def space(self) -> tuple[int, ...]:
        """Indices of the two or three spatial axes, in the order of the layer."""
        return tuple(number for number, letter in enumerate(self.letters) if letter not in "TC")

    @property
    def planar(self) -> bool:
        """Whether there are only two spatial axes."""
        return len(self.space) == 2

    @property
    def anatomical(self) -> bool:
        """Whether the axes are named by directions of the body."""
        return any(letter in _DIRECTIONS for letter in self.letters)

    @property
    def order(self) -> AxisOrder:
        """The order from the file's Z, Y, X to the layer's spatial axes; a 2D layer gets a Z in front."""
        if self.anatomical:
            return AxisOrder()
        named = [(_FILE.index(self.letters[number]), self.backwards[number]) for number in self.space]
        (a, flip_a), (b, flip_b), (c, flip_c) = [(0, False), *named][-3:]
        return AxisOrder((a, b, c), (flip_a, flip_b, flip_c))

    def affine(self, spacing_mm: Spacing) -> npt.NDArray[np.float64] | None:
        """Voxel (x, y, z, 1) to RAS+ mm, shape (4, 4), with the first voxel at 0; None without directions."""
        if not self.anatomical:
            return None
        affine = np.eye(4)
        affine[:3, :3] = 0
        for column, (number, length) in enumerate(zip(self.space, spacing_mm, strict=True)):
            world, sign = _DIRECTIONS[self.letters[number]]
            affine[world, 2 - column] = sign * length
        return affine


def parse_axes(text: str, shape: Sequence[int]) -> Axes:
    """Parse axes that a user typed: "T, C, Z, Y, X", "-X, Y, Z" or "S, A, R"; commas are optional.

    `shape` is that of the layer without colours. Raises `SettingsError` if an image of this shape can't have these
    axes.
    """
    parts = split_axes(text, shape, f"TC{_FILE}{''.join(_DIRECTIONS)}")
    axes = Axes(tuple(part[-1] for part in parts), tuple(len(part) == 2 for part in parts))
    _check(axes, text)
    return axes


def guess_axes(
    shape: Sequence[int],
    *,
    known: Sequence[str | None] | None = None,
    labels: Sequence[str] = (),
    channels: int = 1,
    planar: bool = False,
) -> tuple[Axes, bool]:
    """Guess the axes of a layer; returns them, and whether they are known rather than assumed.

    `shape` is that of the layer without colours, 2 to 5 axes. `known` are names from the file's header, such as "-Y";
    None for time and channels. The layer's axis `labels` are used if all of them are words for axes. `channels` is the
    number of channels expected in the layer. For a `planar` model, an image may have no Z.
    """
    if known is not None:
        return _named([part or "?" for part in known], shape, channels), True
    words = [_LETTER_OF.get(label.strip().lower(), "") for label in labels]
    if all(words) and len(words) == len(set(words)) == len(shape) and {"Y", "X"} <= set(words):
        return _named(["?" if word == "C" else word for word in words], shape, channels, "C" in words), True
    places = _CHANNEL_PLACES.get(len(shape), ()) if channels > 1 and (planar or len(shape) > 3) else ()
    channel = next((place for place in places if shape[place] == channels), None)
    if channel is None and len(shape) == 5:
        channel = 1
    letters = list("TZYX"[-(len(shape) - (channel is not None)) :])
    if channel is not None:
        letters.insert(channel, "C")
    return Axes(tuple(letters), (False,) * len(shape)), False


def _named(parts: Sequence[str], shape: Sequence[int], channels: int, channel: bool = False) -> Axes:
    """Axes with these names; "?" is the channel axis if its length fits, or else time, or else the channel axis."""
    letters = [part[-1] for part in parts]
    for number, letter in enumerate(letters):
        if letter == "?":
            fits = shape[number] == channels and (channel or channels > 1)
            letters[number] = "C" if (fits or "T" in letters) and "C" not in letters else "T"
    return Axes(tuple(letters), tuple(part.startswith("-") for part in parts))


def _check(axes: Axes, text: str) -> None:
    """Raise `SettingsError` if no image can have these axes."""
    letters = axes.letters
    for letter, back in zip(letters, axes.backwards, strict=True):
        if back and letter not in _FILE:
            instead = "only Z, Y and X can run backwards" if letter in "TC" else "name the opposite direction instead"
            raise SettingsError(f"axes are {text!r}, with a minus before {letter}; {instead}")
    if not axes.anatomical:
        missing = [letter for letter in "YX" if letter not in letters]
        if missing:
            raise SettingsError(f"axes are {text!r}, without {missing[0]}; an image has Y and X, a volume Z, Y and X")
        return
    if sorted(_DIRECTIONS[letter][0] for letter in letters if letter in _DIRECTIONS) != [0, 1, 2]:
        raise SettingsError(f"axes are {text!r}; name one of R and L, one of A and P, and one of S and I, as S,A,R")
    mixed = [letter for letter in letters if letter in _FILE]
    if mixed:
        raise SettingsError(f"axes are {text!r}, with {mixed[0]} among directions of the body; write Z,Y,X or S,A,R")
