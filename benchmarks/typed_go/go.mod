module typed_go

go 1.25
