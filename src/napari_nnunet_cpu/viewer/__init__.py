"""The napari plugin. Only this folder uses napari and Qt."""
