"""What people see while gothreads works: the terminal, and progress."""
