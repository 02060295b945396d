"""Inert stand-ins for what checkpoints hold beside weights: numpy's objects, paths, dictionaries with defaults.

Inference has no use for them, but for the axes of mirroring, which may be numpy's numbers. So pickle is given the
classes below instead of the real ones: they take whatever they are given, and run nothing.
"""

from __future__ import annotations

from collections.abc import Callable

_LARGEST_CONTENT = 1024  # bytes of numbers that are looked at
_INTEGERS = frozenset(f"{sign}{width}" for sign in "iu" for width in (1, 2, 4, 8))


class Inert:
    """Stands for any object: takes what pickle gives it and does nothing."""

    called = "an object"

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...

    def __repr__(self) -> str:
        return self.called


class _Dtype(Inert):
    """Stands for a numpy dtype, such as "i8"."""

    code: object = None
    order: object = None

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1:
            self.order = state[1]

    def whole_numbers(self, content: object) -> tuple[int, ...] | None:
        """The numbers whose bytes these are; None where they are not whole, or too many to be axes."""
        if type(self.code) is not str or self.code not in _INTEGERS:
            return None
        width = int(self.code[1])
        if type(content) is not bytes or len(content) > _LARGEST_CONTENT or len(content) % width:
            return None
        parts = (content[start : start + width] for start in range(0, len(content), width))
        big = type(self.order) is str and self.order == ">"
        return tuple(int.from_bytes(part, "big" if big else "little", signed=self.code[0] == "i") for part in parts)


class _Scalar(Inert):
    """Stands for a numpy scalar."""

    called = "a numpy scalar"
    numbers: tuple[int, ...] | None = None

    def __init__(self, dtype: object = None, content: object = None, *_: object) -> None:
        if isinstance(dtype, _Dtype):
            self.numbers = dtype.whole_numbers(content)


class _Array(Inert):
    """Stands for a numpy array."""

    called = "a numpy array"
    numbers: tuple[int, ...] | None = None

    def __setstate__(self, state: object) -> None:
        match state:
            case (_, (int(length),), _Dtype() as dtype, _, content):
                found = dtype.whole_numbers(content)
                self.numbers = found if found is not None and len(found) == length else None


def _dictionary(*_: object) -> dict[object, object]:
    """Stands for a defaultdict: what is in it comes later, and its default is never asked for."""
    return {}


def _no_bytes(*_: object) -> bytes:
    """Stands for `bytes`, which pickle calls for empty ones alone."""
    return b""


# numpy 1 and numpy 2, and Python 3.13, call the same functions and classes by different names.
STAND_INS: dict[str, Callable[..., object]] = {
    **{f"numpy.{core}.multiarray.scalar": _Scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")},
    "numpy.dtype": _Dtype,
    "numpy.ndarray": Inert,
    **{f"numpy.{name}": Inert for name in ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")},
    "collections.defaultdict": _dictionary,
    "builtins.bytes": _no_bytes,
    **{f"builtins.{name}": Inert for name in ("bool", "int", "float", "str", "list", "tuple", "dict")},
    **{f"builtins.{name}": Inert for name in ("frozenset", "range", "slice")},
    **{
        f"{module}.{kind}Path": Inert
        for module in ("pathlib", "pathlib._local")
        for kind in ("", "Posix", "Windows", "Pure", "PurePosix", "PureWindows")
    },
    **{f"datetime.{name}": Inert for name in ("datetime", "date", "time", "timedelta", "timezone")},
    "torch.torch_version.TorchVersion": Inert,
}


def whole_numbers(value: object) -> tuple[int, ...] | None:
    """The numbers of a sequence of whole numbers, Python's or numpy's; None for anything else."""
    if isinstance(value, _Array):
        return value.numbers
    if not isinstance(value, tuple | list | set):
        return None
    found: list[int] = []
    for item in value:
        numbers = item.numbers if isinstance(item, _Scalar) else (item,) if type(item) is int else None
        if numbers is None or len(numbers) != 1:
            return None
        found += numbers
    return tuple(found)
