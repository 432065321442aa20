"""What a module sees of the operating system: descriptors, files, streams, sockets, the poller."""
