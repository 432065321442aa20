"""Restarts a module that has ended, and carries its state over."""
