"""Unpack exported models (zip) safely: no file can land outside the target folder.

Source of the layout: nnU-Net `model_sharing/model_export.py`. Only the files that inference needs
are checked and unpacked: plans, dataset.json, checkpoints and postprocessing.json. All other
entries of the archive are ignored.
"""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from napari_nnunet_cpu.errors import ModelError, first_line
from napari_nnunet_cpu.json_cache import file_sha256, hash_of
from napari_nnunet_cpu.resources import cache_folder
from napari_nnunet_cpu.whole_files import whole_folder

_NEEDED = re.compile(r"plans\.json|[\w-]*Plans[\w-]*\.json|dataset\.json|postprocessing\.json|checkpoint_\w+\.pth")
_INVALID_IN_NAMES = re.compile(r'[<>:"|?*\x01-\x1f]')  # on Windows
_DRIVE = re.compile(r"[A-Za-z]:")
_MACOS = "__MACOSX"  # a folder with metadata files of the same names
_MAX_NEEDED = 10_000
_MAX_RATIO = 200  # far above any real model, because weights hardly compress


@dataclass(frozen=True)
class Unpacked:
    """An archive, and the cache folder with its unpacked files."""

    archive: Path
    folder: Path

    def named(self, text: str) -> str:
        """The text with the archive's path instead of the folder's: "export.zip/Dataset001/.../plans.json"."""
        return text.replace(str(self.folder), str(self.archive))


@contextmanager
def naming_archive(unpacked: Unpacked | None) -> Iterator[None]:
    """Let errors in the block name the archive (if any) and the path in it, instead of the cache folder."""
    try:
        yield
    except ModelError as error:
        if unpacked is None:
            raise
        raise ModelError(unpacked.named(str(error))) from error


def unpack_model(path: Path) -> Unpacked:
    """Unpack an exported model into the cache, unless it is already there.

    Raises `ModelError` if the zip is damaged, or has names, links or sizes that no export of nnU-Net has.
    """
    try:
        # The last folder has the archive's name, because messages name a model by its folder.
        content = {"archive": file_sha256(path), "name": path.name, "needed": _NEEDED.pattern}
        target = cache_folder() / "models" / hash_of(content)[:32]
        unpacked = Unpacked(path, target / path.name)
        if target.is_dir():
            return unpacked
        with zipfile.ZipFile(path) as archive:
            places = _checked(archive, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            _check_space(sum(entry.file_size for entry in places.values()), target.parent, path)
            try:
                with whole_folder(target) as staging:
                    for parts, entry in places.items():
                        _extract(archive, entry, staging.joinpath(unpacked.folder.name, *parts))
            except OSError:
                if not target.is_dir():  # unless another process was faster
                    raise
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001  # a hostile file can make zipfile raise anything
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise ModelError(f"{path} can't be unpacked: {reason}") from error
    return unpacked


def _checked(archive: zipfile.ZipFile, path: Path) -> dict[tuple[str, ...], zipfile.ZipInfo]:
    """The entries to extract, by the parts of their target path."""
    # The original names, because zipfile silently corrects invalid ones.
    named = ((entry, entry.orig_filename.replace("\\", "/")) for entry in archive.infolist())
    needed = [(entry, name) for entry, name in named if _is_needed(name)]
    if not needed:
        raise ModelError(f"{path} holds no nnU-Net v2 model: no plans.json, dataset.json or checkpoint in it")
    if len(needed) > _MAX_NEEDED:
        raise ModelError(f"{path} holds {len(needed)} plans and checkpoints; it was refused")
    if sum(entry.compress_size for entry, _ in needed) > path.stat().st_size:
        raise ModelError(f"{path} holds entries that overlap; it was refused")
    places: dict[tuple[str, ...], zipfile.ZipInfo] = {}
    seen: set[tuple[str, ...]] = set()
    for entry, name in needed:
        original = entry.orig_filename
        parts = _parts(name)
        if name.startswith("/") or ".." in parts or "\0" in name or _DRIVE.fullmatch(parts[0]):
            raise ModelError(f"{path} holds the path {original!r}, which leaves its folder; it was refused")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ModelError(f"{path} holds a link ({original!r}); it was refused")
        place = tuple(_INVALID_IN_NAMES.sub("_", part) for part in parts)
        folded = tuple(part.casefold() for part in place)
        if folded in seen:
            raise ModelError(f"{path} holds {original!r} twice; it was refused")
        if entry.file_size > _MAX_RATIO * max(entry.compress_size, 1):
            raise ModelError(f"{path}: {original!r} grows {_MAX_RATIO}-fold or more when unpacked; it was refused")
        seen.add(folded)
        places[place] = entry
    return places


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _is_needed(name: str) -> bool:
    parts = _parts(name)
    return bool(parts) and not name.endswith("/") and _MACOS not in parts and bool(_NEEDED.fullmatch(parts[-1]))


def _check_space(needed: int, folder: Path, path: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ModelError(
            f"{path} needs {needed / 2**20:.0f} MB unpacked, and the disk of the cache has {free / 2**20:.0f} MB left; "
            "free some, or name a folder on another disk in NAPARI_NNUNET_CPU_CACHE"
        )


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, target.open("xb") as sink:
        shutil.copyfileobj(source, sink, 2**20)
