"""Tiles: the grid, the tiles that a run computes, their order, and the labels that they make final."""

from napari_nnunet_cpu.predict.tiles.finality import Finality, window_depth
from napari_nnunet_cpu.predict.tiles.grid import Grid, Tile
from napari_nnunet_cpu.predict.tiles.order import Focus
from napari_nnunet_cpu.predict.tiles.run_tiles import RunTiles
from napari_nnunet_cpu.predict.tiles.selection import TileSelection, chosen_tiles, cropped_box
