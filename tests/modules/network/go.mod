module network

go 1.25
