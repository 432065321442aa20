module keeps

go 1.25
