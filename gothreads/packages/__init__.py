"""Python packages made of Go packages: `gothreads stubs` and `gothreads wheel` write them."""

#: The files with the module, and with the description of its typed functions, in a package's folder.
MODULE, DESCRIPTION = "module.wasm", "module.json"
