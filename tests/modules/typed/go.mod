module typed

go 1.25
