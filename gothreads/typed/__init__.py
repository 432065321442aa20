"""Typed functions: Go functions that //gothreads:export exports, with classes for their types."""

import sys

#: How the names of the Python modules for the types of apps begin (typed/classes.py). They are in no file.
TYPES = "gothreads.typed.types_"
#: The handler by which Go calls what Python lends to it (typed/lending.py).
OBJECT = "gothreads:object"
#: The handler by which Go says that a stream has something (typed/parking.py).
WAKE = "gothreads:wake"


class _Missing:
    """Says what to do when a value of `app.types` is unpickled where no app of that module was opened.

    Last among the finders of modules, so it is asked only for what is not there.
    """

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        if name.startswith(TYPES):
            raise ModuleNotFoundError(
                "the value is of a type of a Go module (app.types) that this process has not opened. Open the module "
                "first; or write a package of it, whose types any process imports: gothreads stubs", name=name)


sys.meta_path.append(_Missing)
