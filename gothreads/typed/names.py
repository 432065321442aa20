"""How types are written in Python: annotations for people, for stubs and for msgspec."""

from __future__ import annotations

from gothreads.typed.schema import Field, Type

_BUILTINS = {"bool": "bool", "string": "str", "complex64": "complex", "complex128": "complex", "text": "str",
             "bytes": "bytes", "float32": "float", "float64": "float"}


class Names:
    """Renders annotations, as text: with the names of Python and of the classes, for people."""

    builtins = classes = ""
    array, datetime, typing, abc = "array.", "datetime.", "typing.", ""
    stream = "Stream"

    def of(self, kind: Type) -> str:
        """The annotation of a type."""
        match kind.shape:
            case "class":
                return self.classes + kind.name
            case "stream":
                return f"{self.stream}[{self.of(kind.of[0])}]"
            case "list" | "set" | "dict" | "tuple" as shape:
                return f"{self.builtins}{shape}[{', '.join(map(self.of, kind.of))}]"
            case "pointer":
                return f"{self.of(kind.of[0])} | None"
            case "time":
                return f"{self.datetime}datetime"
            case "duration":
                return f"{self.datetime}timedelta"
            case "any":
                return f"{self.typing}Any"
            case "numbers":
                return f"{self.array}array"
            case "reader" | "writer":
                return f"{self.typing}BinaryIO"
            case "callable":
                params, results = kind.of
                return self.of_callable(params.of, results.of)
            case "rest":
                return self.of(kind.of[0])
            case shape:
                return self.builtins + _BUILTINS.get(shape, "int")

    def parameter(self, param: Field) -> str:
        """A parameter of a function that Python implements."""
        if param.type.shape == "rest":
            return f"*{param.name}: {self.of(param.type.of[0].item)}"
        return f"{param.name}: {self.of(param.type)}"

    def of_callable(self, params: tuple[Type, ...], results: tuple[Type, ...]) -> str:
        """The annotation of a callable."""
        returns = self.result(results) if results else f"{self.builtins}object"
        return f"{self.abc}Callable[{self.takes(params)}, {returns}]"

    def takes(self, params: tuple[Type, ...]) -> str:
        """The parameters in the annotation of a callable."""
        return "..." if params and params[-1].shape == "rest" else f"[{', '.join(map(self.of, params))}]"

    def result(self, results: tuple[Type, ...]) -> str:
        """The annotation of what a function returns."""
        if len(results) == 1:
            return self.of(results[0])
        return f"{self.builtins}tuple[{', '.join(map(self.of, results))}]" if results else "None"


class _ExactNames(Names):
    """With names that no field of a class can hide: these begin with a letter."""

    builtins, classes = "_builtins.", "_types."
    array, datetime, typing = "_array.", "_datetime.", "_typing."


class _ArgumentNames(Names):
    """The names of what functions take and return, for people: of numbers, a function takes any sequence."""

    def of(self, kind: Type) -> str:
        if kind.shape == "numbers":
            return f"Sequence[{number(kind)}]"
        return super().of(kind)

    def of_callable(self, params: tuple[Type, ...], results: tuple[Type, ...]) -> str:
        returns = self.result(results) if results else "object"
        return f"Callable[{RESULT_NAMES.takes(params)}, {returns}]"


class _ResultNames(Names):
    def of(self, kind: Type) -> str:
        return f"array[{number(kind)}]" if kind.shape == "numbers" else super().of(kind)


def number(kind: Type) -> str:
    """The class of the numbers of a slice or an array of them."""
    return "float" if kind.name.startswith("float") else "int"


NAMES, EXACT_NAMES, ARGUMENT_NAMES, RESULT_NAMES = Names(), _ExactNames(), _ArgumentNames(), _ResultNames()


class Annotation(str):
    """An annotation in a signature for people, which shows it without quotes."""

    __slots__ = ()
    __repr__ = str.__str__
