"""The OpenVINO engine, in float32: the fastest exact engine on most CPUs."""
