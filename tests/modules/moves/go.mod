module moves

go 1.25
