module files

go 1.25
