//go:build wasip1 && go1.26

package runtime

// isTraceSignal reports whether what readTrace0 returns is not part of the trace.
func isTraceSignal([]byte) bool { return false }
