"""How a module is run: one model a file."""
