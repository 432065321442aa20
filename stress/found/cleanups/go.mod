module cleanups

go 1.25
