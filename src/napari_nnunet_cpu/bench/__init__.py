"""Side by side with nnU-Net: cases made here, both programs in fresh processes, their cost and their labels."""
