module outlive

go 1.25
