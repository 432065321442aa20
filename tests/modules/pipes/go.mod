module chat

go 1.25
