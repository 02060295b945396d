"""The napari plugin. Everything that knows napari or Qt is in this folder, and it knows only `Run` and its settings."""
