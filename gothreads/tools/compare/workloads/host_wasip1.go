package main

import "gothreads/guest"

//go:wasmimport env host
func host(value int64) int64

func init() {
	hostCall = host
	for name, handler := range handlers {
		guest.Handle(name, handler)
	}
	guest.HandleLent("flip_lent", flip)
}
