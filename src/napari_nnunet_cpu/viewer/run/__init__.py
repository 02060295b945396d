"""Runs in a window: the thread, the growing preview, and the slice on screen first."""
