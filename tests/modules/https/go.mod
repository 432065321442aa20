module https

go 1.25
