module chaos

go 1.25
