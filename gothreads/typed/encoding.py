"""How values are written as MessagePack: also those of types that msgspec does not know, as NumPy's and pandas'."""

from __future__ import annotations

import array
import datetime
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec.msgpack import Encoder, Ext

from gothreads.bridge.buffers import NUMBER_CODES
from gothreads.text import cut
from gothreads.typed.argument_errors import at_key
from gothreads.typed.schema import ClassSchema, Type

#: The kinds of extensions (wire/numbers.go): of numbers, by the typecodes of array.array; and others.
KINDS = {code: number for number, code in enumerate(NUMBER_CODES, 1)}
COMPLEX_KIND, _MISSING_KIND = 11, 12
COMPLEX = struct.Struct("<dd")
#: The typecode of a buffer's items, by their format and size.
_FORMATS = {**{(code, array.array(code).itemsize): code for code in KINDS},
            ("l", 8): "q", ("L", 8): "Q", ("l", 4): "i", ("L", 4): "I", ("n", 8): "q", ("N", 8): "Q", ("c", 1): "B"}
#: The deepest part of a value that first_wrong names.
_DEEPEST = 100


class WrongValue(ValueError):
    """A value cannot be written. path: to its wrong part."""

    def __init__(self, why: str, path: str) -> None:
        super().__init__(why)
        self.path = path


def first_wrong(value: Any, failed: Exception, kind: Type | None, classes: Mapping[str, ClassSchema],
                depth: int = 0) -> tuple[str, str]:
    """The path to the part of a value that cannot be written, and why.

    kind: the type in Go that it is for, if that is known.
    """
    while kind is not None and kind.shape == "pointer":
        kind = kind.of[0]
    for path, part, inner_kind in parts_of(value, kind, classes) if depth < _DEEPEST else ():
        try:
            ENCODER.encode(part)
        except Exception as inner:
            further, why = first_wrong(part, inner, inner_kind, classes, depth + 1)
            return path + further, why
    if isinstance(failed, UnicodeEncodeError):
        return "", f"expected valid Unicode, got {cut(value)}"
    if isinstance(failed, OverflowError):
        return "", f"expected an int of 64 bits, got {cut(value)}"
    if isinstance(failed, RecursionError):
        return "", "it is nested too deeply"
    if isinstance(failed, WrongValue):
        return failed.path, str(failed)
    return "", str(failed) if isinstance(failed, ValueError) else _no_value(value)


def parts_of(value: Any, kind: Type | None,
             classes: Mapping[str, ClassSchema]) -> Iterator[tuple[str, Any, Type | None]]:
    """The parts of a value, with the paths to them, as Go spells these, and their types."""
    shape = kind.shape if kind is not None else ""
    of = kind.of if kind is not None else ()
    fields = {field.name: field.type for field in classes[kind.name].fields} if kind and shape == "class" else {}
    if (names := getattr(value, "__struct_fields__", None)) is not None:
        yield from ((f".{name}", getattr(value, name), fields.get(name)) for name in names)
    elif isinstance(value, dict):
        for key, item in value.items():
            path = f".{key}" if fields and isinstance(key, str) else at_key(key)
            yield path, key, None
            yield path, item, fields.get(key) or (of[1] if shape == "dict" else None)
    else:
        if not isinstance(value, list | tuple):
            try:
                value = _other(value)
            except Exception:  # it is wrong as a whole
                return
        if isinstance(value, list | tuple):
            yield from ((f"[{at}]", item, of[0] if shape in ("list", "set") else None) for at, item in enumerate(value))


def _no_value(value: Any) -> str:
    hint = ""
    if isinstance(value, Mapping):
        hint = ". Give a dict: dict(…)"
    elif isinstance(value, Iterable):
        hint = ". Give a list: list(…)"
    return f"Go has no value for {cut(value)}{hint}"


def _other(value: Any) -> Any:
    """What msgspec writes instead of a value of a type that it does not know."""
    if isinstance(value, range):
        return list(value)
    if isinstance(value, complex):
        return Ext(COMPLEX_KIND, COMPLEX.pack(value.real, value.imag))
    if _is_missing(value):
        return Ext(_MISSING_KIND, b"\0")
    if isinstance(value, datetime.datetime):  # of a subclass, such as pandas.Timestamp
        return datetime.datetime.combine(value.date(), value.timetz())
    if isinstance(value, datetime.timedelta):
        return datetime.timedelta(value.days, value.seconds, value.microseconds)
    _check_mask(value)
    if getattr(value, "ndim", None) != 0 and (found := buffer_of(value)) is not None:
        return Ext(KINDS[found[0]], bytes(found[1]))
    if hasattr(value, "tolist"):  # rows; or one of NumPy's numbers, or times, texts or the like
        items = list(value) if getattr(value, "ndim", 0) > 1 else _with_microseconds(value).tolist()
        if type(items) is not type(value):
            return items
    elif hasattr(value, "to_numpy"):  # a table
        return value.to_numpy()
    raise TypeError(_no_value(value))


def _is_missing(value: Any) -> bool:
    """Whether it is what pandas has for missing values: not NaN, which is a float."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and any(value is getattr(pandas, name, None) for name in ("NA", "NaT"))


def _check_mask(value: Any) -> None:
    """WrongValue: an array of numpy.ma has masked elements. Below the mask is any number."""
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(value, masked.MaskedArray) and masked.is_masked(value):
        at = next(zip(*masked.getmaskarray(value).nonzero(), strict=True), ()) if value.ndim else ()
        raise WrongValue("it is masked, and Go's arrays have no mask. Give the array with a number there, "
                         "array.filled(0), or without it, array.compressed()", "".join(f"[{index}]" for index in at))


def _with_microseconds(value: Any) -> Any:
    """Of NumPy's times and durations, these to the microsecond: in nanoseconds, their tolist() has integers."""
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    return value.astype(f"{kind}8[us]") if kind in ("m", "M") and not hasattr(value, "to_numpy") else value


def buffer_of(value: Any) -> tuple[str, memoryview] | None:
    """The typecode and the bytes of a buffer of numbers of one dimension; None for anything else. ValueError."""
    has_list = hasattr(value, "dtype")  # NumPy's arrays have tolist() for what is not plain numbers
    try:
        view = memoryview(value)
    except TypeError:
        return None
    except ValueError:
        if has_list:  # times
            return None
        raise
    if view.ndim != 1:
        return None
    _check_mask(value)
    code = _FORMATS.get((view.format.lstrip("@=<") if view.itemsize > 1 else view.format, view.itemsize))
    if code is None:
        if has_list or view.format == "?":
            return None
        raise ValueError(f"expected a buffer of numbers, got one of format {view.format!r}")
    return code, (view if view.c_contiguous else memoryview(view.tobytes())).cast("B")


ENCODER = Encoder(enc_hook=_other)
