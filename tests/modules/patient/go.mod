module patient

go 1.25
