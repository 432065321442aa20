// Command mmap maps memory.
package main

import "syscall"

func main() {
	syscall.Mmap(-1, 0, 4096, syscall.PROT_READ, syscall.MAP_ANON)
}
