"""Profiles as values: their samples, the format of `go tool pprof`, tables and flame graphs. They know no app."""
