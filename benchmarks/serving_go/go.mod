module serving_go

go 1.25
