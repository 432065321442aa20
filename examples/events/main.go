// Events is an order desk. Orders come as events from the host; each needs a price and a place in stock, for which the
// desk asks the host; the answers come seconds later, in any order. Meanwhile everything goes on.
//
// This file is all that has to do with the host; package desk is plain Go.
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

// main runs for as long as the module does. Events come through channels, so it waits for them as for anything else.
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
			guest.Notify("tick", encoded(counter.Totals())) // nobody waits for it
		}
	}
}

// audit is work in the background: it goes through the books all the time.
func audit() {
	for range time.Tick(5 * time.Millisecond) {
		if err := counter.Audit(); err != nil {
			panic(err)
		}
	}
}

// host asks Python. Only the goroutine that asks waits for the answer; when its context ends, so does Python's side.
type host struct{}

func (host) Price(ctx context.Context, item string) (int64, error) {
	reply, err := guest.CallContext(ctx, "price", []byte(item))
	if err != nil {
		return 0, err // such as what the Python function has raised
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
		panic(err) // of plain structs there is none
	}
	return data
}

// What the host calls, from any thread, at any time.

// revenue is what the accepted orders bring, in cents.
//
//go:wasmexport revenue
func revenue() int64 { return counter.Totals().Revenue }

// waiting is the number of orders that are open.
//
//go:wasmexport waiting
func waiting() int64 { return counter.Totals().Open }

// start is a hook: the host calls it before anything else. Stock Go does not run main in a module that takes calls, so
// with --model single, idle or pool the host asks to have it begun here.
//
//go:wasmexport start
func start() {
	if os.Getenv("BEGIN_MAIN") != "" {
		go main()
	}
}

// stop is a hook: the host calls it when it closes the module. It returns when every order is settled.
//
//go:wasmexport stop
func stop() {
	counter.Close()
	guest.Call("closed", encoded(counter.Totals()))
}
