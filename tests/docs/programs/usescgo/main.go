// Command usescgo calls C.
package main

// int seven(void) { return 7; }
import "C"

func main() { println(C.seven()) }
