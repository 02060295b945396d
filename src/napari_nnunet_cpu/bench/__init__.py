"""Side by side with nnU-Net: both programs on one model and image, in fresh processes, their cost and their labels."""
