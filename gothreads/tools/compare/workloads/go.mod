module workloads

go 1.25
