module prepares

go 1.25
