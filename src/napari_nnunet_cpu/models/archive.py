"""Exported models (zip), unpacked so that nothing can land outside its folder.

Source of the layout: nnU-Net `model_sharing/model_export.py`. Only the files inference needs
are unpacked: plans.json, dataset.json and the checkpoints.
"""

from __future__ import annotations

import re
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from napari_nnunet_cpu.errors import ModelError
from napari_nnunet_cpu.remembered import file_sha256
from napari_nnunet_cpu.resources import cache_folder

_NEEDED = re.compile(r"(plans\.json|dataset\.json|postprocessing\.json|fold_\w+/checkpoint_\w+\.pth)")
_MAX_ENTRIES = 10_000
_MAX_RATIO = 200  # JSON shrinks well, weights hardly; nothing honest comes near this


def unpack_model(path: Path) -> Path:
    """Unpack an exported model into the cache, once.

    Parameters
    ----------
    path : Path
        The zip file.

    Returns
    -------
    Path
        A folder named by the file's hash that holds the Dataset folder; one made before is used again.

    Raises
    ------
    ModelError
        When the file is no zip, is damaged, or holds names, links or sizes that an export never has.
    """
    try:
        target = cache_folder() / "models" / file_sha256(path)[:32]
        if target.is_dir():
            return target
        with zipfile.ZipFile(path) as archive:
            entries = _checked(archive, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            _check_space(sum(entry.file_size for entry in entries), target.parent, path)
            staging = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=target.parent))
            try:
                for entry in entries:
                    _extract(archive, entry, staging)
                staging.replace(target)
            except OSError:
                if not target.is_dir():  # another process may have been faster
                    raise
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001  # a hostile file can make zipfile raise anything
        raise ModelError(f"{path} can't be unpacked: {error}") from error
    return target


def _checked(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """The entries to extract, after a look at all of them."""
    entries = archive.infolist()
    if len(entries) > _MAX_ENTRIES:
        raise ModelError(f"{path} holds {len(entries)} entries; it was refused")
    if sum(entry.compress_size for entry in entries) > path.stat().st_size:
        raise ModelError(f"{path} holds entries that overlap; it was refused")
    seen: set[str] = set()
    needed = []
    for entry in entries:
        # What the archive says, not what zipfile makes of it: the latter cleans names up silently.
        name = entry.orig_filename
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\\" in name or ":" in name or "\0" in name:
            raise ModelError(f"{path} holds the path {name!r}, which leaves its folder; it was refused")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ModelError(f"{path} holds a link ({name!r}); it was refused")
        if entry.is_dir():
            continue
        folded = "/".join(place.parts).casefold()
        if folded in seen:
            raise ModelError(f"{path} holds {name!r} twice; it was refused")
        seen.add(folded)
        if entry.file_size > _MAX_RATIO * max(entry.compress_size, 1):
            raise ModelError(f"{path}: {name!r} grows {_MAX_RATIO}-fold or more when unpacked; it was refused")
        if _NEEDED.fullmatch("/".join(place.parts[-2:])) or _NEEDED.fullmatch(place.name):
            needed.append(entry)
    if not needed:
        raise ModelError(f"{path} holds no nnU-Net v2 model: no plans.json, dataset.json or checkpoint in it")
    return needed


def _check_space(needed: int, folder: Path, path: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ModelError(f"{path} needs {needed / 2**20:.0f} MB unpacked, {folder} has {free / 2**20:.0f} MB left")


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    target = folder.joinpath(*PurePosixPath(entry.orig_filename).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, target.open("xb") as sink:
        shutil.copyfileobj(source, sink, 2**20)
