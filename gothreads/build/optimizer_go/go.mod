module optimizer

go 1.25
