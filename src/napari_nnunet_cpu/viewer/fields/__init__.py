"""Fields of the widget that magicgui does not have."""

from napari_nnunet_cpu.viewer.fields.path_edit import PathEdit
from napari_nnunet_cpu.viewer.fields.typed_line import TypedLine
