"""The networks that nnU-Net plans, built without its packages."""
