module json

go 1.25
