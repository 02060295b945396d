"""Networks in 8-bit integers: calibrated with the image, and checked against float32 on it."""
