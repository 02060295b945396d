"""Check the archive of a checkpoint before torch opens it.

torch would silently load some invalid files, and explain others badly: pointers, programs, other formats, damaged
or compressed records.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from napari_nnunet_cpu.errors import ModelError, first_line

# The size of everything except tensors: names, log, optimizer structure. Real checkpoints have well under 10 MB.
_MAX_PICKLE_BYTES = 64 * 2**20
_PICKLE = b"\x80"  # first byte of every pickle since protocol 2
_ZIP = b"PK"
_PROTOCOL = 2  # the protocol of torch.save, and the only one that torch can check


def check_torch_archive(path: Path) -> list[int]:
    """The bytes of each record of tensor data, in file order.

    Raises `ModelError` if the file is anything but an intact archive of tensors and plain values.
    """
    try:
        _check_format(path)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_index(archive, entries, path)
            # Here, because torch does not check the checksums of tensors: a flipped bit would load silently.
            damaged = archive.testzip()
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001  # a hostile file can make zipfile raise anything
        raise ModelError(f"{path} can't be read: {first_line(error)}") from error
    if damaged is not None:
        raise ModelError(f"{path} is damaged: the checksum of {damaged} is wrong; copy the file again")
    data = [entry for entry in entries if entry.filename.split("/")[1:2] == ["data"] and entry.file_size]
    return [entry.file_size for entry in sorted(data, key=lambda entry: entry.header_offset)]


def _check_format(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path} is a git-lfs pointer, not the weights; fetch them with 'git lfs pull'")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise ModelError(f"{path} is a web page, not a checkpoint; download the file itself")
    if head.startswith(_PICKLE):
        raise ModelError(
            f"{path} is a bare pickle, as torch before 1.6 wrote them, which can't be read safely; "
            "ask for a checkpoint that torch 1.6 or newer saved"
        )
    # Both, because torch, unlike zipfile, refuses an archive after other data.
    if not (head.startswith(_ZIP) and zipfile.is_zipfile(path)):
        raise ModelError(f"{path} is truncated or not a checkpoint: it is not a torch archive")


def _check_index(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], path: Path) -> None:
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ModelError(f"{path} holds compressed records, which torch does not write; it was refused")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ModelError(f"{path} declares more data than it has; it was refused")
    if any(entry.filename.split("/")[1:] == ["constants.pkl"] for entry in entries):
        raise ModelError(f"{path} is a TorchScript program, not a checkpoint; it was refused")
    for entry in entries:
        if not entry.filename.endswith("data.pkl"):
            continue
        if entry.file_size > _MAX_PICKLE_BYTES:
            raise ModelError(f"{path}: its index is larger than {_MAX_PICKLE_BYTES} bytes; it was refused")
        with archive.open(entry) as index:
            head = index.read(2)
        if head != _PICKLE + bytes([_PROTOCOL]):
            found = f"pickle protocol {head[1]}" if head.startswith(_PICKLE) and len(head) > 1 else "another protocol"
            raise ModelError(
                f"{path} was saved with {found}, which can't be read safely; "
                f"ask for a checkpoint of torch.save's own protocol {_PROTOCOL}"
            )
