module streams

go 1.25
