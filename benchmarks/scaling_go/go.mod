module scaling

go 1.25
