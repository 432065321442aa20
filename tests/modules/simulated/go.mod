module simulated

go 1.25
