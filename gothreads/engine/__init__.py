"""wasmtime: its settings, calls in both directions, stacks, traps and interrupts."""
