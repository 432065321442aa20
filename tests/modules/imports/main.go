// The module of tests/typed/test_imports.py: what Python implements.
package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
)

// Item is what has a price.
type Item struct {
	Name  string
	Count int
}

// Prices knows prices.
type Prices interface {
	// Price returns the price of an item.
	Price(ctx context.Context, item Item) (float64, error)
	Total(prices ...float64) (sum float64, n int, err error)
	URLOf(name string) *string
}

// The shop's prices.
//
//gothreads:import
var prices Prices

var (
	// notify is told what is going on.
	//
	//gothreads:import notify_all
	notify func(text string, data []byte) error = func(string, []byte) error { return errors.New("not set") }

	//gothreads:import
	clock func() int64
)

var begun bool

func init() { begun = prices != nil && clock != nil && notify("", nil) == nil }

// Begun says whether an init function could call imports.
//
//gothreads:export
func Begun() bool { return begun }

// Cost asks for all prices at the same time.
//
//gothreads:export
func Cost(ctx context.Context, items []Item) (float64, error) {
	all, failures := make([]float64, len(items)), make([]error, len(items))
	var group sync.WaitGroup
	for i, item := range items {
		group.Go(func() {
			price, err := prices.Price(ctx, item)
			all[i], failures[i] = price*float64(item.Count), err
		})
	}
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		return 0, err
	}
	sum, _, err := prices.Total(all...)
	return sum, err
}

//gothreads:export
func URLOf(name string) *string { return prices.URLOf(name) }

//gothreads:export
func Notify(text string, data []byte) error { return notify(text, data) }

//gothreads:export
func Clock() int64 { return clock() }

//gothreads:export
func Add(a, b int) int { return a + b }

//gothreads:export
func Exit(code int) { os.Exit(code) }

var ticks atomic.Int64

// Ticks says how often main has asked for the time.
//
//gothreads:export
func Ticks() int64 { return ticks.Load() }

func main() {
	clock()
	ticks.Add(1)
	select {}
}
