// Command json has handlers of values (guest.HandleJSON).
package main

import (
	"context"
	"errors"
	"math"

	"gothreads/guest"
)

type query struct {
	Text  string
	Limit int
}

func init() {
	guest.HandleJSON("repeat", func(_ context.Context, q query) ([]string, error) {
		if q.Limit < 0 {
			return nil, errors.New("a limit below zero")
		}
		texts := make([]string, q.Limit)
		for i := range texts {
			texts[i] = q.Text
		}
		return texts, nil
	})
	guest.HandleJSON("any", func(_ context.Context, v any) (any, error) { return v, nil })
	guest.HandleJSON("infinite", func(context.Context, struct{}) (float64, error) { return math.Inf(1), nil })
	guest.HandleJSON("wait", func(ctx context.Context, _ any) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	guest.Handle("text", func([]byte) ([]byte, error) { return []byte("text"), nil })
}

func main() { select {} }
