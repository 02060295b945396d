"""Files with any damage are a case or one line of error: no hang, no giant in memory, nothing on the terminal."""

import gzip
import random
import struct
import tracemalloc
import warnings
import zlib

import pytest
from image_files import image_files

from napari_nnunet_cpu import read_case
from napari_nnunet_cpu.errors import CaseError

pytestmark = pytest.mark.slow

FILES = image_files()
PER_FILE = 50
NUMBERS = [0, 1, 2, 3, 8, 16, 127, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1]
FLOATS = [float("nan"), float("inf"), -1.0, 0.0, 1e38, -3.4028235e38, 1e-40]


def change_byte(content, chance):
    content[chance.randrange(reach(content, chance))] = chance.randrange(256)


def flip_bit(content, chance):
    content[chance.randrange(reach(content, chance))] ^= 1 << chance.randrange(8)


def set_number(content, chance):
    width = chance.choice([2, 4, 8])
    value = chance.choice(NUMBERS) % (1 << 8 * width)
    place = chance.randrange(reach(content, chance))
    content[place : place + width] = value.to_bytes(width, chance.choice(["little", "big"]))


def set_float(content, chance):
    place = chance.randrange(reach(content, chance))
    content[place : place + 4] = struct.pack(chance.choice("<>") + "f", chance.choice(FLOATS))


def change_digit(content, chance):
    digits = [place for place in range(reach(content, chance)) if chr(content[place]).isdigit()]
    if digits:
        content[chance.choice(digits)] = chance.choice(b"0123456789.,-e \n")


def cut_off(content, chance):
    del content[chance.randrange(len(content)) :]


def remove_part(content, chance):
    place = chance.randrange(len(content))
    del content[place : place + chance.randrange(1, 40)]


def repeat_part(content, chance):
    source, place = chance.randrange(len(content)), chance.randrange(len(content))
    content[place:place] = content[source : source + chance.randrange(1, 60)]


def change_directory(content, chance):
    """A field of an entry in a TIFF's first directories, or where the next directory is said to be."""
    order, big = "<>"[content[:2] == b"MM"], content[2:4] in (b"\0\x2b", b"\x2b\0")
    count, offset, width = ("Q", "Q", 20) if big else ("H", "I", 12)
    directories, entries = [], []
    (place,) = struct.unpack_from(order + offset, content, 8 if big else 4)
    while place and len(directories) < 9 and place not in directories:
        directories.append(place)
        (number,) = struct.unpack_from(order + count, content, place)
        first = place + struct.calcsize(count)
        entries += range(first, first + min(number, 99) * width, width)
        following = first + number * width
        (place,) = struct.unpack_from(order + offset, content, following)
        if chance.random() < 0.1:
            struct.pack_into(order + offset, content, following, chance.choice([*directories, directories[0] + 1]))
    entry, field = chance.choice(entries), chance.choice(["type", "count", "value"])
    if field == "type":
        struct.pack_into(order + "H", content, entry + 2, chance.randrange(20))
    else:
        value = chance.choice([*NUMBERS, *directories, 5, 7, 32773, 50000]) % 2**32
        struct.pack_into(order + "I", content, entry + (4 if field == "count" else width - len(offset) * 4), value)


def reach(content, chance):
    """To the end of the content or, more often, of what is likely to be its header."""
    return min(len(content), chance.choice([64, 400, 1000, len(content)]))


CHANGES = [change_byte, flip_bit, set_number, set_float, change_digit, cut_off, remove_part, repeat_part]


def damaged(name, content, chance):
    zipped = name.endswith(".gz") and chance.random() < 0.8  # else the compressed bytes are damaged
    content = bytearray(gzip.decompress(content) if zipped else content)
    for _ in range(chance.choice([1, 1, 2, 3, 6])):
        tiff = name.endswith(".tif") and chance.random() < 0.5
        try:
            (change_directory if tiff else chance.choice(CHANGES))(content, chance)
        except (struct.error, IndexError, ValueError, OverflowError):
            break  # nothing is left that could be changed
    if name.endswith(".png") and chance.random() < 0.8:
        return with_checksums(bytes(content))
    return gzip.compress(content) if zipped else bytes(content)


def with_checksums(content):
    """A PNG whose damaged chunks have the right checksums."""
    result, place = content[:8], 8
    while place + 12 <= len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4])
        result += content[place:end] + zlib.crc32(content[place + 4 : end]).to_bytes(4)
        place = end + 4
    return result


def outcome(path):
    """What a file is read as, or the error."""
    try:
        return f"a case {read_case(path).shape}"
    except CaseError as error:
        return str(error)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_a_case_or_one_line_of_error(tmp_path, capfd, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        tracemalloc.start()
        for seed in range(PER_FILE):
            path.write_bytes(damaged(name, FILES[name], random.Random(f"{name} {seed}")))
            tracemalloc.reset_peak()
            assert len(outcome(path).splitlines()) == 1, seed
            assert tracemalloc.get_traced_memory()[1] < 2**28, seed
        tracemalloc.stop()
    assert [str(warning.message) for warning in warned] == []
    assert capfd.readouterr() == ("", "")
