"""The labels or regions that the heads of the network stand for."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.models.documents import Strict, at_most, parse

MAX_LABELS = 2**16
LabelValue = int | Annotated[list[int], at_most(MAX_LABELS)]


@dataclass(frozen=True)
class Labels:
    """The names of label values, and the assignment of heads to values.

    Source: nnU-Net `utilities/label_handling/label_handling.py`.
    """

    names: dict[int, str]  # by value, background (0) included
    heads: int  # output channels of the network
    # For overlapping regions: the value that each head paints, in painting order. None for ordinary labels: the largest
    # head wins, and its index is the value.
    region_values: tuple[int, ...] | None = None
    # All values in dataset.json except background, ascending. Each is an input channel of a cascade's second stage.
    foreground: tuple[int, ...] = ()
    regions: tuple[tuple[int, ...], ...] = ()  # for regions: the label values that each head covers

    @property
    def dtype(self) -> npt.DTypeLike:
        """Type of label arrays: uint8, or uint16 if the values need it."""
        return np.uint8 if max(self.names) < 255 else np.uint16


class _RegionOrder(Strict):
    regions_class_order: Annotated[list[int] | None, at_most(MAX_LABELS)]


def labels_from_dataset(labels: dict[str, LabelValue], regions_class_order: Any, where: str) -> Labels:
    """Read the "labels" of dataset.json: name to value, or to the list of values of a region.

    "ignore" has no head. For regions, `regions_class_order` lists the values that they paint; it is ignored
    otherwise. Raises `ModelError` if background is missing, or the regions and their order do not fit.
    """
    if labels.get("background") != 0:
        found = labels.get("background", "nothing")
        raise ModelError(f'{where}: labels must name "background" as 0, found {found}')
    used = {name: value for name, value in labels.items() if name != "ignore"}
    regions = {name: _values(value) for name, value in used.items()}
    if any(value < 0 or value > 65535 for values in regions.values() for value in values):
        raise ModelError(f"{where}: label values must lie between 0 and 65535")
    if any(not values for values in regions.values()):
        raise ModelError(f"{where}: a label has an empty list of values")
    values = sorted({value for values in regions.values() for value in values})
    foreground = tuple(value for value in values if value)
    _check_ignore(labels, values, where)
    if not any(isinstance(value, list) and len(value) > 1 for value in used.values()):
        head = {value: index for index, value in enumerate(values)}
        by_value = {head[regions[name][0]]: name for name in regions}
        return Labels(dict(sorted(by_value.items())), heads=len(values), foreground=foreground)
    heads = [name for name, values in regions.items() if set(values) != {0}]
    order = parse(_RegionOrder, {"regions_class_order": regions_class_order}, where).regions_class_order
    if order is None or len(order) != len(heads):
        raise ModelError(
            f"{where}: {len(heads)} regions need a regions_class_order of as many values, found {reprlib.repr(order)}"
        )
    if not all(0 < value <= 65535 for value in order):
        raise ModelError(f"{where}: regions_class_order must hold values between 1 and 65535")
    names = {0: "background"} | dict(zip(order, heads, strict=True))
    covered = tuple(tuple(sorted(set(regions[name]))) for name in heads)
    return Labels(names, len(heads), tuple(order), foreground, covered)


def _values(value: LabelValue) -> list[int]:
    return value if isinstance(value, list) else [value]


def _check_ignore(labels: dict[str, LabelValue], values: list[int], where: str) -> None:
    if "ignore" in labels and labels["ignore"] != max(values) + 1:
        raise ModelError(
            f'{where}: "ignore" must be the highest label plus one ({max(values) + 1}), found {labels["ignore"]}'
        )
