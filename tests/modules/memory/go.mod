module memory

go 1.25
