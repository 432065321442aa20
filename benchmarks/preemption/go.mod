module preemption

go 1.25
