"""The networks in nnU-Net's plans, built without nnU-Net's packages."""
