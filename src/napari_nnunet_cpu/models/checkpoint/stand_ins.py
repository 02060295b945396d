"""Stand-ins for the objects in checkpoints beside the weights: numpy objects, paths, dictionaries with defaults.

Inference needs none of them, except for the axes of mirroring, which may be numpy numbers. So pickle gets
the classes below instead of the real ones. They accept any content and run nothing.
"""

from __future__ import annotations

from collections.abc import Callable

_MAX_CONTENT = 1024  # bytes of numbers that are decoded
_INTEGERS = frozenset(f"{sign}{width}" for sign in "iu" for width in (1, 2, 4, 8))


class Inert:
    """A stand-in for any object: accepts the state that pickle sets, and ignores it."""

    called = "an object"

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...

    def __repr__(self) -> str:
        return self.called


class _Dtype(Inert):
    """A stand-in for a numpy dtype, such as "i8"."""

    code: object = None
    order: object = None

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1:
            self.order = state[1]

    def whole_numbers(self, content: object) -> tuple[int, ...] | None:
        """Decode bytes as integers; None for another dtype, and for more numbers than there are axes."""
        if type(self.code) is not str or self.code not in _INTEGERS:
            return None
        width = int(self.code[1])
        if type(content) is not bytes or len(content) > _MAX_CONTENT or len(content) % width:
            return None
        parts = (content[start : start + width] for start in range(0, len(content), width))
        big = type(self.order) is str and self.order == ">"
        return tuple(int.from_bytes(part, "big" if big else "little", signed=self.code[0] == "i") for part in parts)


class _Scalar(Inert):
    """A stand-in for a numpy scalar."""

    called = "a numpy scalar"
    numbers: tuple[int, ...] | None = None

    def __init__(self, dtype: object = None, content: object = None, *_: object) -> None:
        if isinstance(dtype, _Dtype):
            self.numbers = dtype.whole_numbers(content)


class _Array(Inert):
    """A stand-in for a numpy array."""

    called = "a numpy array"
    numbers: tuple[int, ...] | None = None

    def __setstate__(self, state: object) -> None:
        match state:
            case (_, (int(length),), _Dtype() as dtype, _, content):
                found = dtype.whole_numbers(content)
                self.numbers = found if found is not None and len(found) == length else None


def _dictionary(*_: object) -> dict[object, object]:
    """A stand-in for a defaultdict: pickle adds the items later, and the default is never needed."""
    return {}


def _no_bytes(*_: object) -> bytes:
    """A stand-in for `bytes`, which pickle only calls to make an empty object."""
    return b""


# numpy 1, numpy 2 and Python 3.13 have different names for the same functions and classes.
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
    """The numbers in a sequence of Python or numpy integers; None for any other value."""
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
