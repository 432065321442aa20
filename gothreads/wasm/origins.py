"""Recognises modules that were built for something other than WASI preview 1, by their imports, for error messages.

No module is refused for its origin alone: a program may provide the module's imports in Python.
"""

from __future__ import annotations

from gothreads.wasm.binary import Module

_FOR_GO = "gothreads build PACKAGE -o FILE"
_PREVIEW_1 = "Build it for WASI preview 1: wasm32-wasip1 (Rust, C), tinygo build -target=wasip1"
_GO_JS = f"JavaScript, by Go (GOOS=js). Build it for WASI: {_FOR_GO}"
_TINYGO_JS = (
    f"JavaScript, by TinyGo (-target=wasm). Build it for WASI: tinygo build -target=wasip1; or by Go: {_FOR_GO}"
)
_BINDGEN = ("JavaScript, by wasm-bindgen. Export plain functions (extern \"C\"), and build it without wasm-bindgen: "
            "cargo build --target wasm32-wasip1")
_EMSCRIPTEN = ("JavaScript, by Emscripten. Link it with -sSTANDALONE_WASM (and --no-entry, for a library), or build it "
               "with wasi-sdk or zig cc")
_PREVIEW_2 = f"WASI preview 2: it is the core of a component. {_PREVIEW_1}; or by Go: {_FOR_GO}"
_PREVIEW_0 = f"WASI as it was before preview 1 (wasi_unstable). {_PREVIEW_1}; or by Go: {_FOR_GO}"
_OBJECT = "a linker: it is an object file. Link it"
_SIDE_MODULE = "a dynamic linker: it is a shared library. Link it statically"

#: Describes a component. (It is not a core module, so made_for() never sees one.)
COMPONENT = f"a WebAssembly component, for WASI preview 2. {_PREVIEW_1}"

#: For JavaScript, Go's runtime always imports this, and TinyGo's never does.
_GO_ONLY = "runtime.wasmExit"
#: Prefixes of names that Emscripten's library imports.
_EMSCRIPTENS = ("emscripten_", "_emscripten_", "__syscall_", "invoke_", "_embind_", "_abort_js", "__cxa_throw",
                "__assert_fail")


def made_for(module: Module) -> str | None:
    """What else the module was built for, and how to build it instead; None when it is not recognised."""
    titles = {title for title, _ in module.customs}
    if "dylink.0" in titles:
        return _SIDE_MODULE
    if "linking" in titles:
        return _OBJECT
    functions = module.imported_functions
    found = next(filter(None, (_origin(i.module, i.name) for i in functions)), None)
    return _TINYGO_JS if found == _GO_JS and all(i.name != _GO_ONLY for i in functions) else found


def _origin(module: str, name: str) -> str | None:
    """What one import tells about the module's origin; None for nothing."""
    if module in ("gojs", "go", "env") and name.startswith(("runtime.", "syscall/js.")):
        return _GO_JS
    if module.startswith(("wasi:", "[export]wasi:")):
        return _PREVIEW_2
    if module == "wasi_unstable":
        return _PREVIEW_0
    if module in ("wbg", "__wbindgen_placeholder__") or name.startswith(("__wbindgen_", "__wbg_")):
        return _BINDGEN
    minified = module == "a" and len(name) <= 2
    return _EMSCRIPTEN if minified or (module == "env" and name.startswith(_EMSCRIPTENS)) else None
