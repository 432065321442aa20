module recursion

go 1.25
