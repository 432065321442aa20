"""What connects Python and Go: values, exports, buffers, host functions, handlers, events."""
