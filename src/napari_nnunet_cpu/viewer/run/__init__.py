"""Runs in a window: the thread, the preview that grows, the slice on screen first."""
