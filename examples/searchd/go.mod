module searchd

go 1.25
