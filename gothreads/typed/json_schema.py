"""JSON Schemas (2020-12, as in OpenAPI 3.1) for the types of typed functions, as typed/json_values has their values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gothreads.typed.schema import ClassSchema, Type

JsonSchema = dict[str, Any]

_NOT_FINITE: JsonSchema = {"enum": ["nan", "inf", "-inf"]}
#: Of a float: JSON has no number for those that are not finite.
FLOAT: JsonSchema = {"anyOf": [{"type": "number"}, _NOT_FINITE]}
_COMPLEX: JsonSchema = {"anyOf": [{"type": "number"}, {"type": "string", "description": "A complex number: 1+2j"}]}
_SIMPLE: Mapping[str, JsonSchema] = {
    "bool": {"type": "boolean"}, "string": {"type": "string"}, "float32": FLOAT, "float64": FLOAT,
    "complex64": _COMPLEX, "complex128": _COMPLEX, "any": {},
    "bytes": {"type": "string", "contentEncoding": "base64"}, "time": {"type": "string", "format": "date-time"},
    "duration": {"type": "string", "format": "duration"}}


def whole(low: int, high: int) -> JsonSchema:
    """Of an int from low to high."""
    return {"type": "integer", "minimum": low, "maximum": high}


def integer(go: str) -> JsonSchema:
    """Of an int of such a type of Go: "int32", "uint8"."""
    unsigned, bits = go.startswith("u"), int(go.removeprefix("u").removeprefix("int"))
    return whole(0, (1 << bits) - 1) if unsigned else whole(-1 << (bits - 1), (1 << (bits - 1)) - 1)


class JsonSchemas:
    """The schemas of one module's types. Those of classes are referred to.

    classes: by their names. place: where the schemas of classes are, as a JSON pointer.
    """

    def __init__(self, classes: Mapping[str, ClassSchema], place: str = "#/components/schemas/") -> None:
        self._classes, self._place = classes, place

    def of(self, kind: Type) -> JsonSchema:
        """The schema of a type."""
        if (simple := _SIMPLE.get(kind.shape)) is not None:
            return dict(simple)
        match kind.shape:
            case "class":
                return {"$ref": self._place + component(kind.name)}
            case "text":
                return {"type": "string", "description": f"The text of a {kind.name}"}
            case "numbers":
                return _array(_SIMPLE.get(kind.name) or integer(kind.name), kind.length)
            case "list":
                return _array(self.of(kind.of[0]), kind.length)
            case "set":
                return _array(self.of(kind.of[0]), None)
            case "tuple":
                return items([self.of(each) for each in kind.of])
            case "dict":
                return {"type": "object", "additionalProperties": self.of(kind.of[1])}
            case "pointer":
                return {"anyOf": [self.of(kind.of[0]), {"type": "null"}]}
            case shape:
                return integer(shape)

    def of_classes(self) -> dict[str, JsonSchema]:
        """The schemas of all classes, by the names of their components."""
        return {component(name): self._of_class(schema) for name, schema in self._classes.items()}

    def _of_class(self, schema: ClassSchema) -> JsonSchema:
        doc = schema.doc.strip() or schema.go
        if schema.members:  # Go's enumerations are open
            values = ", ".join(f"{name}: {value}" for name, value in schema.members)
            texts = all(isinstance(value, str) for _, value in schema.members)
            return {"type": "string" if texts else "integer", "description": f"{doc}\n\n{values}"}
        return {"type": "object", "description": doc, "additionalProperties": False,
                "properties": {field.name: described(self.of(field.type), field.doc) for field in schema.fields}}


def component(name: str) -> str:
    """The name of a component for a class: OpenAPI allows some of ASCII's letters only."""
    return re.sub(r"[^A-Za-z0-9._-]", lambda letter: f"_{ord(letter[0]):x}", name)


def described(schema: JsonSchema, doc: str) -> JsonSchema:
    """The same schema, with a description if there is one."""
    return {**schema, "description": doc.strip()} if doc.strip() else schema


def items(schemas: list[JsonSchema], least: int | None = None, more: JsonSchema | None = None) -> JsonSchema:
    """Of a list with these items, in order.

    least: how many there are at least; all if it is not given. more: of any further ones; there are none if it is not
    given.
    """
    least = len(schemas) if least is None else least
    found: JsonSchema = {"type": "array"}
    if schemas:
        found["prefixItems"] = schemas
    if least:
        found["minItems"] = least
    if more is None:
        found |= {"items": False, "maxItems": len(schemas)} if schemas else {"maxItems": 0}
    else:
        found["items"] = more
    return found


def _array(item: JsonSchema, length: int | None) -> JsonSchema:
    found: JsonSchema = {"type": "array", "items": item}
    return found if length is None else {**found, "minItems": length, "maxItems": length}
