"""Small files of every format and kind that is read, for tests that damage them."""

import gzip
import io
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import tifffile
from PIL import Image

VOXELS = np.random.default_rng(0).integers(0, 255, (4, 20, 30), np.uint8)
VOXELS[:, :5] = 3
COLOURS = np.ascontiguousarray(np.moveaxis(VOXELS[:3], 0, -1))
GREEN_PALETTE = Image.fromarray(COLOURS).quantize(9)


def nifti(kind=nib.Nifti1Image, dtype=np.int16, scaled=False):
    image = kind(VOXELS.T.astype(dtype), np.diag([1.0, 2.0, 3.0, 1.0]))
    image.set_qform(image.affine, 1)
    if scaled:
        image.header.set_slope_inter(2, 1)
    return image.to_bytes()


def itk(ending, compressed=False):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{ending}"
        sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(path), compressed)
        return path.read_bytes()


def tiff(**options):
    file = io.BytesIO()
    tifffile.imwrite(file, VOXELS, **({"photometric": "minisblack", "metadata": None} | options))
    return file.getvalue()


def natural(kind, image, **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def image_files():
    """Content by name; the name ends as the format does."""
    return {
        "nifti1.nii": nifti(),
        "nifti2.nii": nifti(nib.Nifti2Image),
        "float.nii": nifti(dtype=np.float32),
        "scaled.nii": nifti(scaled=True),
        "a.nii.gz": gzip.compress(nifti()),
        "raw.nrrd": itk(".nrrd"),
        "gzip.nrrd": itk(".nrrd", True),
        "raw.mha": itk(".mha"),
        "zlib.mha": itk(".mha", True),
        "a.gipl": itk(".gipl"),
        "grey.png": natural("PNG", VOXELS[0]),
        "colours.png": natural("PNG", COLOURS),
        "palette.png": natural("PNG", GREEN_PALETTE, transparency=3),
        "animation.png": natural("PNG", VOXELS[0], save_all=True, append_images=[Image.fromarray(VOXELS[1])]),
        "grey.jpg": natural("JPEG", VOXELS[0]),
        "progressive.jpg": natural("JPEG", COLOURS, progressive=True),
        "grey.bmp": natural("BMP", VOXELS[0]),
        "palette.bmp": natural("BMP", GREEN_PALETTE),
        "plain.tif": tiff(),
        "shaped.tif": tiff(metadata={}),
        "big.tif": tiff(bigtiff=True),
        "big-endian.tif": tiff(byteorder=">"),
        "imagej.tif": tiff(imagej=True, resolution=(4, 4), metadata={"axes": "ZYX", "unit": "um", "spacing": 2.0}),
        "ome.tif": tiff(ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}),
        "strips.tif": tiff(rowsperstrip=3),
        "tiles.tif": tiff(tile=(16, 16), compression="zlib", predictor=True),
        "raw-tiles.tif": tiff(tile=(16, 16)),
        **{f"{name}.tif": tiff(compression=name) for name in TIFF_COMPRESSIONS},
    }


TIFF_COMPRESSIONS = ("zlib", "lzw", "packbits", "zstd", "lzma", "jpeg", "jpeg2000")
