"""Networks in 8-bit integers, calibrated with crops of the image and checked against float32 on other crops."""
