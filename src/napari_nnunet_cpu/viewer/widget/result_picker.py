"""Choose the layer for the labels of a run: a new one, or an existing one to merge into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, Container, LineEdit, Widget
from napari.layers import Labels

from napari_nnunet_cpu.errors import SettingsError
from napari_nnunet_cpu.viewer.results import MergeRule, MergeTarget

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_nnunet_cpu.viewer.image import LayerImage

_NEW = "new"  # not None, because magicgui emits no event when the value becomes None
_HELP = (
    "Into a layer of yours the labels are written at the end of the run, as one step that can be undone.\n"
    "What you paint or erase in it meanwhile stays."
)


class ResultPicker(Container[Widget]):
    """A box for the layer, and the rule for merging.

    Attributes
    ----------
    layer : ComboBox
        "new", or an editable Labels layer (never a preview).
    values : LineEdit
        Values or names of labels, with commas; empty for all except background.
    overwrite : CheckBox
        Replace labels that were in the layer when the run began.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self.layer = ComboBox(label="labels go to", choices=self._offered, tooltip=_HELP)
        self.values = LineEdit(label="only labels", tooltip="values or names, as 1, liver; empty for all of them")
        self.overwrite = CheckBox(
            text="replace existing labels",
            tooltip="also write over labels that are in the layer when the run begins",
        )
        super().__init__(widgets=[self.layer, self.values, self.overwrite], labels=True)
        self.margins = (0, 0, 0, 0)
        self._show_rule(_NEW)
        self.layer.changed.connect(self._show_rule)

    def target(self, viewer: ViewerModel, image: LayerImage, names: dict[int, str]) -> MergeTarget | None:
        """The chosen layer with its present content; None for a new layer. To be called when the run starts.

        `names` are the model's label names by value. Raises `CaseError` if the layer can't take labels of this image,
        and `SettingsError` if the model does not have the typed labels.
        """
        layer = self.layer.value
        if not isinstance(layer, Labels):
            return None
        return MergeTarget(
            viewer, layer, image, MergeRule(parse_values(self.values.value, names), self.overwrite.value)
        )

    def _offered(self, _: Any = None) -> list[tuple[str, Labels | str]]:
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Labels) and layer.editable]
        return [("a new layer", _NEW), *((f"into {layer.name}", layer) for layer in layers)]

    def _show_rule(self, layer: Labels | str) -> None:
        self.values.visible = self.overwrite.visible = isinstance(layer, Labels)


def parse_values(text: str, names: dict[int, str]) -> tuple[int, ...] | None:
    """Parse labels that a user typed, "1, liver": values or names (in upper or lower case) with commas; None for all.

    Raises `SettingsError` if one of them is not in `names`.
    """
    whole = _value(text.strip(), names)  # a name may have a comma
    if whole is not None:
        return (whole,)
    values = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        value = _value(part, names)
        if value is None:
            there = ", ".join(f"{value} {name}" for value, name in names.items())
            raise SettingsError(f"only labels: {part} is none of the model's; write values or names of {there}")
        values.append(value)
    return tuple(dict.fromkeys(values)) or None


def _value(part: str, names: dict[int, str]) -> int | None:
    if part.isascii() and part.isdigit() and int(part) in names:
        return int(part)
    same = [value for value, name in names.items() if name == part]
    alike = [value for value, name in names.items() if name.casefold() == part.casefold()]
    found = same or alike
    return found[0] if len(found) == 1 else None
