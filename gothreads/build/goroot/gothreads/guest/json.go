package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"gothreads/guest/slot"
)

// HandleJSON registers a handler of values: encoding/json reads the request, and writes the answer.
//
//	guest.HandleJSON("search", func(ctx context.Context, q Query) ([]Hit, error) { … })
//
// The host calls it with JSON: app.request_json("search", {"text": "…"}) in Python. As with [HandleContext], ctx is
// cancelled when nobody waits for the answer any more. A request that does not fit In, or an answer that JSON cannot
// express, is an error of the handler. HandleJSON panics like [Handle].
func HandleJSON[In, Out any](name string, h func(ctx context.Context, in In) (Out, error)) {
	if h == nil {
		panic("guest.HandleJSON: a handler needs a function")
	}
	watchCancels()
	register("guest.HandleJSON", name, slot.Handler{WithContext: func(ctx context.Context, request []byte) ([]byte, error) {
		var in In
		if err := json.Unmarshal(request, &in); err != nil {
			return nil, fmt.Errorf("the request must be JSON that fits %v: %w", reflect.TypeFor[In](), err)
		}
		out, err := h(ctx, in)
		if err != nil {
			return nil, err
		}
		answer, err := json.Marshal(out)
		if err != nil {
			return nil, fmt.Errorf("the answer cannot be written as JSON: %w", err)
		}
		return answer, nil
	}})
}
