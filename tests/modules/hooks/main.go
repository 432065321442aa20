// Command hooks has a start and a stop, the first an export, the second a handler. FAIL says what goes wrong in one of them.
package main

import (
	"errors"
	"fmt"
	"os"

	"gothreads/guest"
)

var started int64

//go:wasmexport start
func start() {
	started++
	fmt.Println("start")
	switch os.Getenv("FAIL") {
	case "start":
		panic("no start")
	case "ask":
		if _, err := guest.Call("may", nil); err != nil {
			panic("may not start: " + err.Error())
		}
	}
}

//go:wasmexport count
func count() int64 { return started }

//go:wasmexport crash
func crash() { panic("crashed") }

func init() {
	fmt.Println("init")
	guest.Handle("stop", func(p []byte) ([]byte, error) {
		fmt.Println("stop")
		switch os.Getenv("FAIL") {
		case "stop":
			return nil, errors.New("cannot stop")
		case "exit":
			os.Exit(3)
		case "panic":
			panic("at the stop")
		case "wait":
			return guest.Call("never", nil)
		case "spin":
			for {
			}
		case "call":
			reply, err := guest.Call("farewell", []byte("bye"))
			fmt.Printf("%s %v\n", reply, err)
		}
		return nil, nil
	})
	guest.Handle("call", func(p []byte) ([]byte, error) { return guest.Call(string(p), nil) })
}

func main() { select {} }
