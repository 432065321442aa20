// Events is an order desk. The host sends orders as events. For each one the desk asks the host for a price and for
// stock; the answers come seconds later, in any order. Everything else goes on meanwhile.
//
// Only this file deals with the host; package desk is plain Go.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"events/desk"

	"gothreads/guest"
)

// counter is the desk. It is a package variable because exported functions have no other way to find it.
var counter = desk.New(host{})

// main runs as long as the module does. Events arrive on channels, so it can wait for them and for a ticker at once.
func main() {
	go audit()
	orders, withdrawals := guest.Events("order"), guest.Events("withdraw")
	second := time.NewTicker(time.Second)
	for {
		select {
		case payload := <-orders:
			var o desk.Order
			err := json.Unmarshal(payload, &o)
			if err == nil {
				err = counter.Take(o)
			}
			if err != nil && err != desk.ErrClosed {
				fmt.Fprintf(os.Stderr, "events: not taken: %s: %v\n", payload, err)
			}
		case payload := <-withdrawals:
			if id, err := strconv.ParseInt(string(payload), 10, 64); err == nil {
				counter.Withdraw(id)
			}
		case <-second.C:
			guest.Notify("tick", encoded(counter.Totals())) // does not wait for a reply
		}
	}
}

// audit is background work: it checks the books every few milliseconds.
func audit() {
	for range time.Tick(5 * time.Millisecond) {
		if err := counter.Audit(); err != nil {
			panic(err)
		}
	}
}

// host asks Python. Only the asking goroutine waits for the answer. When its context is cancelled, so is the Python
// function.
type host struct{}

func (host) Price(ctx context.Context, item string) (int64, error) {
	reply, err := guest.CallContext(ctx, "price", []byte(item))
	if err != nil {
		return 0, err // such as an exception from the Python function
	}
	return strconv.ParseInt(string(reply), 10, 64)
}

func (host) Reserve(ctx context.Context, item string, count int64) error {
	_, err := guest.CallContext(ctx, "reserve", fmt.Appendf(nil, "%s %d", item, count))
	return err
}

func (host) Tell(o desk.Outcome) {
	if _, err := guest.Call("outcome", encoded(o)); err != nil {
		fmt.Fprintf(os.Stderr, "events: the host has not heard of order %d: %v\n", o.Order, err)
	}
}

func encoded(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // cannot happen with plain structs
	}
	return data
}

// The host calls these functions from any thread, at any time.

// revenue is the revenue from the accepted orders, in cents.
//
//go:wasmexport revenue
func revenue() int64 { return counter.Totals().Revenue }

// waiting is the number of open orders.
//
//go:wasmexport waiting
func waiting() int64 { return counter.Totals().Open }

// start is a hook: the host calls it before anything else. Stock Go does not run main in a module that takes calls, so
// with --model single, idle or pool the host asks for main to be started here.
//
//go:wasmexport start
func start() {
	if os.Getenv("BEGIN_MAIN") != "" {
		go main()
	}
}

// stop is a hook: the host calls it when it closes the module. It returns once every order is settled.
//
//go:wasmexport stop
func stop() {
	counter.Close()
	guest.Call("closed", encoded(counter.Totals()))
}
