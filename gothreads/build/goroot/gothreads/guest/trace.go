package guest

import (
	"context"
	"strings"

	"gothreads/guest/slot"
)

// TraceHeaders returns the headers of the trace that a call belongs to: "traceparent", and perhaps "tracestate" and
// "baggage", as W3C defines them. ctx is the context of a handler, or of an exported function, or one that is derived
// from it. Without a trace there are none.
//
// With otel-go, spans of Go become children of the host's:
//
//	ctx = otel.GetTextMapPropagator().Extract(ctx, propagation.MapCarrier(guest.TraceHeaders(ctx)))
func TraceHeaders(ctx context.Context) map[string]string {
	headers := map[string]string{}
	for line := range strings.SplitSeq(slot.Trace(ctx), "\n") {
		if name, value, found := strings.Cut(line, ":"); found {
			headers[name] = value
		}
	}
	return headers
}
