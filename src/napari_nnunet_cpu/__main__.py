"""Run `nnunet-cpu` with this interpreter: `python -m napari_nnunet_cpu`."""

from napari_nnunet_cpu.cli import main

if __name__ == "__main__":
    main()
