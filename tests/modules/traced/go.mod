module traced

go 1.25
