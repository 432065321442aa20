"""Between Python and Go: values, exports, buffers, host functions, handlers, events."""
