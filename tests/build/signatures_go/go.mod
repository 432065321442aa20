module signatures

go 1.25
