module signals

go 1.25
