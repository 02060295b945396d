"""Brings napari.yaml, which stands at the root, to where npe2 looks for it: beside the package's __init__.py.

A wheel carries it there. An editable install runs the package from src/, so a link there leads to the root's
file; git ignores the link and no build takes it along.
"""

import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManifestHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        manifest = Path(self.root, "napari.yaml")
        if version != "editable":
            build_data["force_include"][str(manifest)] = "napari_nnunet_cpu/napari.yaml"
            return
        link = Path(self.root, "src", "napari_nnunet_cpu", "napari.yaml")
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(Path("..", "..", "napari.yaml"))
        except OSError:  # Windows grants links to few: there, install again after a change of the manifest
            shutil.copyfile(manifest, link)
