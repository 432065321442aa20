"""Go servers as their authors wrote them, on threads, with real clients."""
