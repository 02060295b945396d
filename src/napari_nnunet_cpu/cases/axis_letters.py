"""The axes of an image, written as letters."""

from __future__ import annotations

import re
from collections.abc import Sequence

from napari_nnunet_cpu.errors import SettingsError


def split_axes(text: str, shape: Sequence[int], letters: str) -> list[str]:
    """Split axes that a user typed into one capital letter per axis, with a minus if the axis runs backwards.

    "T, C, Z, Y, X" and "-XYZ" are valid: commas are optional. Every axis of `shape` needs one of `letters`.
    """
    compact = re.sub(r"[\s,]", "", text).upper().replace("\N{MINUS SIGN}", "-")
    parts = re.findall(r"-?[A-Z]", compact)
    if not parts or "".join(parts) != compact:
        raise SettingsError(f"axes are {text!r}; write a letter for each axis, as Z, Y, X or T, C, Z, Y, X")
    named = [part[-1] for part in parts]
    unknown = [letter for letter in named if letter not in letters]
    if unknown:
        raise SettingsError(f"axes are {text!r}; {unknown[0]} is not one of {', '.join(letters)}")
    if len(parts) != len(shape):
        raise SettingsError(
            f"axes are {text!r}, that is {len(parts)} axes, but the image has {len(shape)}, of shape {tuple(shape)}; "
            "name each of them"
        )
    twice = [letter for letter in sorted(set(named)) if named.count(letter) > 1]
    if twice:
        raise SettingsError(f"axes are {text!r}, with {twice[0]} twice; name each axis once")
    return parts
