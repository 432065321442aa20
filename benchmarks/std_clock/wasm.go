// Takes the place of testing/testing_other.go in the programs of benchmarks/std.py: benchmarks are timed by the process's
// CPU time, which other processes affect less than the clock.

package testing

import "time"

// The host's, which runs the program (benchmarks/std_program.py).
//
//go:wasmimport benchmark cpu_time
func cpuTime() int64

type highPrecisionTime struct{ cpu int64 }

func highPrecisionTimeNow() highPrecisionTime { return highPrecisionTime{cpuTime()} }

func highPrecisionTimeSince(b highPrecisionTime) time.Duration {
	return time.Duration(cpuTime() - b.cpu)
}

func isWindowsRetryable(err error) bool { return false }
