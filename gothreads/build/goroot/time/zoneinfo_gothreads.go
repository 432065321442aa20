//go:build wasip1

package time

import "syscall"

// Time zones come from the host (gothreads/wasi/zones.py) when ZONEINFO has none, unless time/tzdata is imported.

// time_zone writes the file of a time zone, and returns a WASI error number.
//
//go:wasmimport gothreads time_zone
//go:noescape
func time_zone(name string, buffer *byte, size int32, length *int32) syscall.Errno

func init() { loadFromEmbeddedTZData = hostZone } // time/tzdata replaces it: it is initialized later

func hostZone(name string) (string, error) {
	buffer := make([]byte, 32<<10) // the largest have 4 KB
	var length int32
	if errno := time_zone(name, &buffer[0], int32(len(buffer)), &length); errno != 0 {
		return "", errno
	}
	return string(buffer[:length]), nil
}
