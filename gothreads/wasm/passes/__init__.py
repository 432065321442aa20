"""Changes to a linked module, one a file."""
