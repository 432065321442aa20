"""The operating system as a module sees it: descriptors, files, streams, sockets, the poller."""
