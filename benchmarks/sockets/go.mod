module sockets

go 1.25
