module semantics

go 1.25
