module talk

go 1.25
