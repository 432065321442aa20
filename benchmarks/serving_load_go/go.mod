module serving_load_go

go 1.25
