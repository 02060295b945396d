"""Passes through the network: patches, mirrored copies, and the sums of what they give."""
