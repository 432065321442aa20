// Command reader prints the files of the folders in its arguments and writes there; without any, main returns.
package main

import (
	"fmt"
	"os"
)

//go:wasmexport block
func block() { select {} }

func main() {
	for _, name := range os.Args[1:] {
		entries, err := os.ReadDir(name)
		if err != nil {
			fmt.Println("cannot read", name)
			continue
		}
		for _, e := range entries {
			content, _ := os.ReadFile(name + "/" + e.Name())
			fmt.Printf("%s: %s\n", e.Name(), content)
		}
		if os.WriteFile(name+"/written", []byte("by Go"), 0o644) != nil {
			fmt.Println("cannot write")
		}
	}
}
