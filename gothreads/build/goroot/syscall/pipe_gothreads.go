//go:build wasip1

package syscall

//go:wasmimport gothreads pipe_open
//go:noescape
func pipe_open(ends *int32) Errno

// Pipe creates a pipe in the host: fd[0] reads what is written to fd[1].
func Pipe(fd []int) error {
	if len(fd) != 2 {
		return EINVAL
	}
	var ends [2]int32
	if errno := pipe_open(&ends[0]); errno != 0 {
		return errnoErr(errno)
	}
	fd[0], fd[1] = int(ends[0]), int(ends[1])
	return nil
}
