"""Typed functions as Python sees them: `app.fit(x, y, Options(degree=3), timeout=2)`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import zip_longest
from types import ModuleType
from typing import Any

from gothreads.bridge.buffers import Message, Refused
from gothreads.errors import (
    ArgumentError,
    NotCallable,
    drop_frames,
    hides_frames,
)
from gothreads.text import cut, shown
from gothreads.typed.argument_errors import argument_error, shown_path, with_path
from gothreads.typed.batches import Batches, JsonBatches
from gothreads.typed.caller import Call, Caller, Read, made
from gothreads.typed.classes import Classes, classes_of
from gothreads.typed.in_python import in_python
from gothreads.typed.json_values import JsonReader, as_json
from gothreads.typed.lending import Loan, lender_of, raised
from gothreads.typed.names import ARGUMENT_NAMES, RESULT_NAMES, Annotation
from gothreads.typed.namespace import Functions
from gothreads.typed.schema import LENT, FunctionSchema, Type
from gothreads.typed.streams import JsonStream, Stream
from gothreads.typed.values import ArgumentEncoder, BatchDecoder, ErrorDecoder, ResultDecoder

#: The keyword arguments of every call, besides its own.
OPTIONS = frozenset(("timeout", "on_timeout"))
#: The handlers of typed functions have their names after this (build/goroot/gothreads/guest/slot/handlers.go).
_PREFIX = "gothreads:"


def functions_of(description: Mapping[str, Any], caller: Caller,
                 package: ModuleType | None = None) -> tuple[Functions, ModuleType]:
    """The typed functions of a module, and its types. ModuleError: the description is malformed.

    package: as for classes_of.
    """
    classes = classes_of(description, package)
    errors = ErrorDecoder(classes, raised)
    made = {schema.name: _KINDS[_streams(schema), _lends(schema)](schema, classes, errors, caller)
            for schema in classes.schema.functions}
    return Functions(made), classes.module


class TypedFunction:
    """A function that Go exports with //gothreads:export. Any thread may call it."""

    #: Whether it returns an iterator or a channel; and whether its arguments and results have values in JSON.
    has_items, has_json = False, True

    def __init__(self, schema: FunctionSchema, classes: Classes, errors: ErrorDecoder, caller: Caller) -> None:
        #: What Go declares.
        self.schema = schema
        self._caller, self._errors, self._classes = caller, errors, classes.described
        self._json = JsonReader(schema.name, classes.described)
        self._handler = _PREFIX + schema.name
        self._names = [param.name for param in schema.params]
        #: How many arguments are passed on as they are; -1: they are gathered first.
        self._count = -1 if schema.variadic else len(schema.params)
        self._arguments, self._results = ArgumentEncoder(schema, classes), ResultDecoder(schema, classes)
        self.__name__ = self.__qualname__ = schema.name
        self.__module__ = classes.module.__name__
        self.__doc__ = f"{schema.doc}\n{shown(schema.go)}".strip()
        self.__signature__ = _signature(schema)

    def __call__(self, /, *args: Any, **named: Any) -> Any:
        """Call the function. `timeout` (seconds) and `on_timeout` are as for App.request: the context is cancelled.

        ArgumentError: an argument is not of its type; the function has not run. GoError: it returned an error.
        """
        options: dict[str, Any] = {}
        try:
            if named or len(args) != self._count:
                args, options = self.bind(args, named)
            message = self._arguments.encode(args)
            if options:
                return self._caller.wait(self._handler, message, self._told(self._read, args), options)
            reply = self._caller.call(self._handler, message)
        except Refused as refused:
            error = self._refused(args, refused)
        except BaseException as failed:
            drop_frames(failed)
            raise
        else:
            return self._results.decode(reply)
        drop_frames(error)
        try:
            raise error
        finally:
            del error  # the traceback has this frame, and with it the arguments

    @hides_frames
    def submit(self, /, *args: Any, **named: Any) -> Future[Any]:
        """Call the function on one of the app's threads. The arguments' form is checked now."""
        args, options = self.bind(args, named)
        return self._caller.submit(self._handler, self._arguments.encode(args), self._told(self._read, args), options)

    @hides_frames
    async def call_async(self, /, *args: Any, **named: Any) -> Any:
        """Call the function without blocking the event loop. Cancelling this acts like a timeout."""
        return await asyncio.wrap_future(self.submit(*args, **named))

    def to_json(self) -> dict[str, Any]:
        """A description for programs: the parameters have examples, which are JSON. body: the one that is a body."""
        schema = self.schema
        params = [{"name": param.name, "go": param.go, "python": ARGUMENT_NAMES.of(param.type),
                   "example": self._json.example(param.type)} for param in schema.params]
        return {"name": schema.name, "go": schema.go, "python": f"{schema.name}{self.__signature__}",
                "doc": schema.doc, "params": params, "variadic": schema.variadic, "iterator": self.has_items,
                **({} if schema.body is None else {"body": schema.body})}

    def submit_json(self, args: Sequence[Any] | Mapping[str, Any],
                    options: Mapping[str, Any]) -> Future[bytes | JsonStream]:
        """Like submit: with arguments as JSON has them, in order or by name. The future's result is JSON, too."""
        with self._told_in_go():
            if isinstance(args, Mapping):
                args = self._in_order(args)
            bound, _ = self.bind(tuple(args), {})
        values = [self._json.read(param.type, value, param.name)
                  for param, value in zip(self.schema.params, bound, strict=True)]

        def read(call: Call) -> bytes | JsonStream:
            try:
                return self._read_json(call)
            except ArgumentError as error:
                raise self._told_in_json(error, bound) from None
        return self._caller.submit(self._handler, self._arguments.encode(values), read, options)

    @contextlib.contextmanager
    def _told_in_go(self) -> Iterator[None]:
        """An error about the arguments has Go's declaration: whoever writes JSON need not know Python's."""
        try:
            yield
        except ArgumentError as error:
            python = f"{self.__name__}{self.__signature__}"
            if not (text := str(error)).endswith(python):
                raise
            raise with_path(f"{text.removesuffix(python)}{shown(self.schema.go)}", error.path) from None

    def _told_in_json(self, error: ArgumentError, args: Sequence[Any]) -> ArgumentError:
        """Go's error for arguments that were JSON, in JSON's words if one of them has the wrong type."""
        for param, value in zip(self.schema.params, args, strict=True):
            misfit = self._json.misfit(param.type, value, param.name)
            if misfit is not None and shown_path(misfit[0]) == error.path:
                return argument_error(self.__name__, *misfit)
        return error

    def json_of_texts(self, texts: Sequence[str]) -> list[Any]:
        """Arguments as JSON has them, of a command line: texts as they are, others as JSON. ArgumentError."""
        kinds = [param.type for param in self.schema.params]
        if self.schema.variadic:
            last = kinds.pop()
            kinds += [last.item] * (len(texts) - len(kinds))
        return [text if kind is None else self._json.of_text(kind, text, f"argument {at}")
                for at, (text, kind) in enumerate(zip_longest(texts, kinds[:len(texts)]), 1)]

    def _in_order(self, named: Mapping[str, Any]) -> tuple[Any, ...]:
        """All arguments, which are given by name. The last, if it is variadic, is a list, or missing."""
        rest = []
        if self.schema.variadic:
            rest = named.get(self._names[-1], [])
            if not isinstance(rest, list):
                raise self._wrong(f"takes a list as {self._names[-1]!r}", self._names[-1])
            named = {name: value for name, value in named.items() if name != self._names[-1]}
        if taken := OPTIONS & named.keys():  # by bind
            raise self._unknown(min(taken))
        bound, _ = self.bind((), named)
        return (*bound[:len(self._names) - self.schema.variadic], *rest)

    def _read(self, call: Call) -> Any:
        return self._result(call)[0]

    def _refused(self, args: Sequence[Any], refused: Refused) -> BaseException:
        """The error for a call with these arguments."""
        return self._errors.refused(self.__name__, refused,
                                    functools.partial(in_python, self.schema.params, args, self._classes))

    def _told(self, read: Read, args: Sequence[Any]) -> Read:
        """What reads as `read` does; what is wrong with these arguments is told as of Python's values."""
        return lambda call: read(lambda: made(call, functools.partial(self._refused, args)))

    def _read_json(self, call: Call) -> bytes | JsonStream:
        return as_json(f"{self.__name__}: the result", self._read(call))

    def _result(self, call: Call) -> tuple[Any, Caller]:
        """The call's result, and a caller of the instance that it was made in."""
        reply, caller = made(call, functools.partial(self._errors.refused, self.__name__))
        return self._results.decode(reply), caller

    def bind(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments in order, and the call's options. ArgumentError: one is missing, or too many."""
        options = {name: named[name] for name in OPTIONS & named.keys()}
        fixed = self._names[:-1] if self.schema.variadic else self._names
        if len(args) > len(fixed) and not self.schema.variadic:
            raise self._wrong(f"takes {len(fixed)} argument{'s' * (len(fixed) != 1)}, {len(args)} given")
        bound = dict(zip(fixed, args, strict=False))
        for name, value in named.items():
            if name in OPTIONS:
                continue
            if name not in fixed:
                raise self._unknown(name)
            if name in bound:
                raise self._wrong(f"has two values for {name!r}, in order and by name", name)
            bound[name] = value
        if missing := [name for name in fixed if name not in bound]:
            raise self._wrong(f"has no value for {', '.join(map(repr, missing))}", missing[0])
        values = [bound[name] for name in fixed]
        if self.schema.variadic:
            rest = args[len(fixed):]
            values.append(self._bytes(rest) if self.schema.params[-1].type.shape == "bytes" else list(rest))
        return tuple(values), options

    def _bytes(self, numbers: tuple[Any, ...]) -> bytes:
        try:
            return bytes(numbers)
        except (TypeError, ValueError):
            raise self._wrong(f"takes ints from 0 to 255 as {self._names[-1]!r}", self._names[-1]) from None

    def _unknown(self, parameter: str) -> ArgumentError:
        return self._wrong(f"has no parameter {cut(parameter)}", parameter)

    def _wrong(self, why: str, path: str = "") -> ArgumentError:
        return with_path(f"{self.__name__} {why}: {self.__name__}{self.__signature__}", path)

    def __reduce__(self) -> str | tuple[Any, ...]:
        return self._caller.reduce(self.__name__)

    def __repr__(self) -> str:
        return f"<Go function {self.__name__}{self.__signature__}>"


class StreamFunction(TypedFunction):
    """A function that returns an iterator or a channel."""

    has_items = True

    def __init__(self, schema: FunctionSchema, classes: Classes, errors: ErrorDecoder, caller: Caller) -> None:
        super().__init__(schema, classes, errors, caller)
        self._batches = BatchDecoder(schema, classes)

    @hides_frames
    def __call__(self, /, *args: Any, **named: Any) -> Stream[Any]:
        """Call the function, which returns an iterator. `timeout` and `on_timeout` are for this call alone."""
        values, options = self.bind(args, named)
        stream: Stream[Any] = self._caller.wait(self._handler, self._arguments.encode(values),
                                                self._told(self._read, values), options)
        return stream

    def _read(self, call: Call) -> Stream[Any]:
        return self._stream(call, lambda: None)

    def _read_json(self, call: Call) -> JsonStream:
        return JsonStream(self._source(JsonBatches, call, lambda: None))

    def _stream(self, call: Call, ended: Callable[[], None]) -> Stream[Any]:
        """ended: called at the end of the stream, at least once."""
        return Stream(self._source(Batches, call, ended))

    def _source(self, kind: type[Batches], call: Call, ended: Callable[[], None]) -> Batches:
        number, caller = self._result(call)
        return kind(number, self._batches, functools.partial(self._errors.refused, self.__name__), caller, ended)


class LendingFunction(TypedFunction):
    """A function that takes callables or file objects, which it may use until it returns."""

    has_json = False

    def __init__(self, schema: FunctionSchema, classes: Classes, errors: ErrorDecoder, caller: Caller) -> None:
        super().__init__(schema, classes, errors, caller)
        self._lenders = {at: lender_of(schema.name, param, classes) for at, param in enumerate(schema.params)
                         if param.type.shape in LENT}

    @hides_frames
    def __call__(self, /, *args: Any, **named: Any) -> Any:
        args, options = self.bind(args, named)
        with Loan() as loan:
            message = self._message(args, loan)
            if options:
                return self._caller.wait(self._handler, message, self._read, options)
            return self._read(lambda: (self._caller.call(self._handler, message), self._caller))

    @hides_frames
    def submit(self, /, *args: Any, **named: Any) -> Future[Any]:
        return self._submit_lending(*self.bind(args, named))

    def submit_body(self, body: Any, texts: Mapping[str, str],
                    options: Mapping[str, Any]) -> Future[bytes | JsonStream]:
        """Like submit, with a file object for the parameter schema.body, and texts, as on a command line, for others.

        The future's result is JSON.
        """
        kinds = {param.name: param.type for param in self.schema.params if param.type.shape not in LENT}
        with self._told_in_go():
            if unknown := texts.keys() - kinds.keys():
                raise self._unknown(min(unknown))
            if missing := kinds.keys() - texts.keys():
                raise self._wrong(f"has no value for {', '.join(map(repr, sorted(missing)))}", min(missing))
        values = {name: self._json.read(kinds[name], self._json.of_text(kinds[name], text, name), name)
                  for name, text in texts.items()}
        assert self.schema.body is not None
        values[self.schema.body] = body
        return self._submit_lending(tuple(values[name] for name in self._names), options, as_json=True)

    def _submit_lending(self, args: tuple[Any, ...], options: Mapping[str, Any], *,
                        as_json: bool = False) -> Future[Any]:
        with self._lent_beyond(args) as (message, loan):
            future = self._caller.submit(self._handler, message, self._read_json if as_json else self._read, options)
        future.add_done_callback(lambda _: loan.close())
        return future

    @contextlib.contextmanager
    def _lent_beyond(self, args: tuple[Any, ...]) -> Iterator[tuple[Message, Loan]]:
        """The message with these arguments, and their loan, which an exception ends, but not the end of the block."""
        with contextlib.ExitStack() as stack:
            loan = stack.enter_context(Loan())
            yield self._message(args, loan), loan
            stack.pop_all()

    def _message(self, args: tuple[Any, ...], loan: Loan) -> Message:
        """The message with these arguments, of which some are lent from now on."""
        values = list(args)
        for at, lender in self._lenders.items():
            values[at] = loan.lend(lender, values[at])
        return self._arguments.encode(values)

    def submit_json(self, args: Sequence[Any] | Mapping[str, Any],
                    options: Mapping[str, Any]) -> Future[bytes | JsonStream]:
        raise self._not_json()

    def json_of_texts(self, texts: Sequence[str]) -> list[Any]:
        raise self._not_json()

    def _not_json(self) -> NotCallable:
        names = " and ".join(self._names[at] for at in self._lenders)
        return NotCallable(f"{self.__name__} takes callables or file objects ({names}), which JSON does not have. Call "
                           "it from Python")


class LendingStreamFunction(LendingFunction, StreamFunction):
    """The same, of one that returns an iterator or a channel: it may use them until that ends."""

    @hides_frames
    def __call__(self, /, *args: Any, **named: Any) -> Stream[Any]:
        args, options = self.bind(args, named)
        with self._lent_beyond(args) as (message, loan):
            stream: Stream[Any] = self._caller.wait(self._handler, message, self._reading(loan), options)
        return stream

    def _submit_lending(self, args: tuple[Any, ...], options: Mapping[str, Any], *,
                        as_json: bool = False) -> Future[Any]:
        with self._lent_beyond(args) as (message, loan):
            future = self._caller.submit(self._handler, message, self._reading(loan, as_json=as_json), options)
        future.add_done_callback(lambda done: loan.close() if done.cancelled() or done.exception() else None)
        return future

    def _reading(self, loan: Loan, *, as_json: bool = False) -> Read:
        if as_json:
            return lambda call: JsonStream(self._source(JsonBatches, call, loan.close))
        return lambda call: self._stream(call, loan.close)


def _streams(schema: FunctionSchema) -> bool:
    return any(result.shape == "stream" for result in schema.results)


def _lends(schema: FunctionSchema) -> bool:
    return any(param.type.shape in LENT for param in schema.params)


#: By whether it returns an iterator, and whether it takes what is lent.
_KINDS: Mapping[tuple[bool, bool], type[TypedFunction]] = {
    (False, False): TypedFunction, (True, False): StreamFunction, (False, True): LendingFunction,
    (True, True): LendingStreamFunction}


def _signature(schema: FunctionSchema) -> inspect.Signature:
    parameters = [inspect.Parameter(param.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=_taken(param.type))
                  for param in schema.params]
    if schema.variadic:
        parameters[-1] = inspect.Parameter(parameters[-1].name, inspect.Parameter.VAR_POSITIONAL,
                                           annotation=_taken(schema.params[-1].type.item))
    return inspect.Signature(parameters, return_annotation=Annotation(RESULT_NAMES.result(schema.results)))


def _taken(kind: Type) -> Annotation:
    return Annotation(ARGUMENT_NAMES.of(kind))
