module httpget

go 1.25
