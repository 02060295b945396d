"""Networks in OpenVINO, in 32-bit floating-point numbers: the fastest exact engine on most CPUs."""
