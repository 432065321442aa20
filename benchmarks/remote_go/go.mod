module remote_go

go 1.25
