module hostcalls

go 1.25
