"""The formats of image files: each read to a `Case`, and most written from one."""
