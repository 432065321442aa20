"""Which of Go's own benchmarks benchmarks/std.py measures."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: The folder with small kernels.
KERNELS = "kernels_go"
#: Those of them that compute with floating-point numbers in loops.
FLOAT_LOOPS = ("MatrixProduct", "Mandelbrot", "NBody", "FFT")


@dataclass(frozen=True)
class Package:
    """A package of the standard library, or KERNELS, and the names of its benchmarks.

    assembly: the benchmarks that natively spend more than a fifth of their time in functions written in assembly for
    x86-64: as Go's profiler says (-test.cpuprofile), but for its own (asyncPreempt).
    """

    path: str
    plain: tuple[str, ...]
    assembly: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.plain, *self.assembly)

    @property
    def own(self) -> bool:
        return self.path == KERNELS

    @property
    def slug(self) -> str:
        return self.path.replace("/", "-")

    @property
    def pattern(self) -> str:
        """For -test.bench."""
        return "|".join("/".join(f"^{re.escape(part)}$" for part in f"Benchmark{name}".split("/"))
                        for name in self.names)


PLAN = (
    Package(KERNELS, (*FLOAT_LOOPS, "Fib", "Sum", "Sieve")),
    Package("sort", ("SearchWrappers", "SortStructs", "Sort1e4", "Stable1e4", "SortInt64K"), ("SortStrings",)),
    Package("slices", ("BinarySearchFuncStruct/Size1024", "CompactFunc_Large/no_dup"), ("SortFuncStruct/Size1024",)),
    Package("strings", ("GenericMatch1", "ByteByteMap", "Map/identity/ASCII", "EqualFold/ASCII",
                        "BuildString_Builder/3Write_Grow", "FieldsFunc/ASCII/4096"),
            ("SplitSingleByteSeparator", "IndexHard2", "CountByte/4096")),
    Package("bytes", ("WriteByte", "WriteRune", "Fields/Mixed/4096", "IndexBytePortable/4K"),
            ("IndexByte/4K", "Equal/4K", "CompareBytesBig", "CountSingle/4K")),
    Package("strconv", ("Quote", "UnquoteHard")),
    Package("fmt", ("SprintfInt", "SprintfFloat", "ManyArgs", "ScanInts")),
    Package("encoding/json", ("CodeMarshal", "CodeUnmarshal", "UnmarshalMap", "EncoderEncode")),
    Package("encoding/gob", ("EndToEndByteBuffer", "DecodeStringSlice")),
    Package("encoding/base64", ("EncodeToString", "DecodeString/8192")),
    Package("encoding/hex", ("Encode/4096", "Decode/4096")),
    Package("encoding/binary", ("ReadStruct", "WriteSlice1000Int32s", "PutUvarint64")),
    Package("encoding/csv", ("Read", "Write")),
    Package("encoding/xml", ("Marshal", "Unmarshal")),
    Package("compress/flate", ("Decode/Newton/Default/1e4", "Encode/Newton/Default/1e4")),
    Package("compress/lzw", ("Encoder/1e4",), ("Decoder/1e4",)),
    Package("regexp", ("Match/Hard/1K", "ReplaceAll", "OnePassLongPrefix", "Compile/Medium")),
    Package("math", ("Sin", "Gamma", "Cbrt"), ("PowFrac",)),
    Package("math/big", ("Hilbert", "DecimalConversion"), ("Exp", "Fibo")),
    Package("unicode/utf8", ("RuneCountTenJapaneseChars", "DecodeJapaneseRune", "ValidLongMostlyASCII")),
    Package("html/template", ("EscapedExecute", "CSSEscaper")),
    Package("text/tabwriter", ("Code",)),
    Package("go/parser", ("Parse", "Resolve")),
    Package("bufio", ("ReaderReadString",), ("WriterFlush",)),
    Package("container/heap", ("Dup",)),
    Package("image/png", ("DecodeRGB", "EncodeRGBA")),
    Package("time", ("FormatRFC3339", "ParseRFC3339UTC", "Date")),
    Package("hash/crc32", ("CRC32/poly=Koopman/size=4kB/align=0",), ("CRC32/poly=IEEE/size=4kB/align=0",)),
    Package("crypto/sha256", (), ("Hash1K/New",)),
    Package("sync", ("MutexUncontended", "RWMutexUncontended", "Pool")),
    Package("runtime", ("ChanSync", "ChanProdCons10", "SelectUncontended", "CreateGoroutines", "MallocTypeInfo16"),
            ("MapAccessHit/Key=int64/Elem=int64/len=8192", "MapIter/Key=int64/Elem=int64/len=8192")),
)
