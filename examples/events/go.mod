module events

go 1.25
