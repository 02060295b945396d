"""The formats of image files: each is read to a `Case`, and most can hold labels."""

from napari_nnunet_cpu.cases.formats.quiet import quiet
