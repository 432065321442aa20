//go:build wasip1 && !go1.26

package runtime

import "internal/trace/tracev2"

// isTraceSignal reports whether readTrace0 says that a generation ends: that is not part of the trace.
func isTraceSignal(buf []byte) bool {
	return len(buf) == 1 && tracev2.EventType(buf[0]) == tracev2.EvEndOfGeneration
}
