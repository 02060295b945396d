"""Fields of the widget that magicgui does not have."""
