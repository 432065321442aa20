module nested

go 1.25
