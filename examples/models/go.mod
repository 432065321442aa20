module models

go 1.25
