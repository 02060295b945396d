"""`python -m napari_nnunet_cpu` is `nnunet-cpu`, of this interpreter."""

from napari_nnunet_cpu.cli import main

if __name__ == "__main__":
    main()
