// Command works runs one small program by name. docs/what-works.md is made from what these programs print here, and
// natively (tests/docs/what_works.py).
//
// Each prints one line: "ok" and a text, or "error" and the error.
package main

import (
	"fmt"
	"os"
	"strings"
)

// A program returns what it found out. The folder is one that it may change.
type program func(folder string) (any, error)

var programs = map[string]program{}

func add(group map[string]program) {
	for name, p := range group {
		programs[name] = p
	}
}

func main() {
	name, folder := os.Args[1], os.Args[2]
	found, err := programs[name](folder)
	if err != nil {
		fmt.Println("error", strings.ReplaceAll(err.Error(), folder, "DIR"))
		return
	}
	fmt.Println("ok", strings.ReplaceAll(fmt.Sprint(found), folder, "DIR"))
}
