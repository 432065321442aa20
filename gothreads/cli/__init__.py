"""The command `gothreads`."""
