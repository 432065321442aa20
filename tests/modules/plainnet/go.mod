module plainnet

go 1.25
