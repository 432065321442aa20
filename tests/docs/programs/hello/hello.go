// Command hello greets.
package main

import "strings"

// Greeting returns how to greet somebody.
func Greeting(name string) string { return "hello, " + strings.ToUpper(name) }

func main() { println(Greeting("world")) }
