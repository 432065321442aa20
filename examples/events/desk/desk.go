// Package desk accepts and refuses orders. It is plain Go: it asks a Host that it is given for prices and stock.
package desk

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// An Order is a customer's order.
type Order struct {
	ID    int64  `json:"id"`
	Item  string `json:"item"`
	Count int64  `json:"count"`
}

// An Outcome is how an order ended.
type Outcome struct {
	Order   int64  `json:"order"`
	Verdict string `json:"verdict"` // one of the four below
	Cents   int64  `json:"cents"`   // the revenue, if accepted
	Why     string `json:"why"`     // the reason, if not
}

const (
	Accepted  = "accepted"
	Refused   = "refused"   // no price, or not enough in stock
	Withdrawn = "withdrawn" // by the customer, before the answers came
	Returned  = "returned"  // the desk closed before the answers came
)

// ErrClosed is returned when the desk has closed.
var ErrClosed = errors.New("the desk has closed")

var errWithdrawn = errors.New("the customer has changed their mind")

// A Host answers the desk's questions, with any delay and in any order. Many goroutines use it at once.
type Host interface {
	Price(ctx context.Context, item string) (cents int64, err error)
	Reserve(ctx context.Context, item string, count int64) error // an error if there is not enough
	Tell(Outcome)                                                // returns when the host has handled it
}

// Totals counts what the desk has done so far. Each order taken is either open or counted under its verdict.
type Totals struct {
	Taken     int64 `json:"taken"`
	Open      int64 `json:"open"`
	Accepted  int64 `json:"accepted"`
	Refused   int64 `json:"refused"`
	Withdrawn int64 `json:"withdrawn"`
	Returned  int64 `json:"returned"`
	Revenue   int64 `json:"revenue"` // in cents
	Audits    int64 `json:"audits"`
}

// A Desk takes orders, and handles each on its own goroutine. Its methods are safe for concurrent use.
type Desk struct {
	host    Host
	working sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[int64]context.CancelCauseFunc
	sales  map[int64]int64 // order -> cents
	totals Totals
}

// New opens a desk.
func New(host Host) *Desk {
	return &Desk{host: host, open: map[int64]context.CancelCauseFunc{}, sales: map[int64]int64{}}
}

// Take starts to handle an order, and returns at once. It returns an error if it does not take the order.
func (d *Desk) Take(o Order) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	if o.Count < 1 {
		return fmt.Errorf("order %d is for %d", o.ID, o.Count)
	}
	if _, known := d.open[o.ID]; known {
		return fmt.Errorf("order %d is open already", o.ID)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	d.open[o.ID] = cancel
	d.totals.Taken++
	d.working.Go(func() {
		outcome := d.decide(ctx, o)
		cancel(nil)
		d.settle(outcome)
		d.host.Tell(outcome)
	})
	return nil
}

// decide asks for price and stock concurrently, and waits for both answers.
func (d *Desk) decide(ctx context.Context, o Order) Outcome {
	reserved := make(chan error, 1)
	go func() { reserved <- d.host.Reserve(ctx, o.Item, o.Count) }()
	price, err := d.host.Price(ctx, o.Item)
	err = errors.Join(err, <-reserved)
	switch cause := context.Cause(ctx); {
	case cause == errWithdrawn:
		return Outcome{Order: o.ID, Verdict: Withdrawn, Why: cause.Error()}
	case cause == ErrClosed:
		return Outcome{Order: o.ID, Verdict: Returned, Why: cause.Error()}
	case err != nil:
		return Outcome{Order: o.ID, Verdict: Refused, Why: err.Error()}
	}
	return Outcome{Order: o.ID, Verdict: Accepted, Cents: price * o.Count}
}

func (d *Desk) settle(o Outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, o.Order)
	switch o.Verdict {
	case Accepted:
		d.totals.Accepted++
		d.totals.Revenue += o.Cents
		d.sales[o.Order] = o.Cents
	case Refused:
		d.totals.Refused++
	case Withdrawn:
		d.totals.Withdrawn++
	case Returned:
		d.totals.Returned++
	}
}

// Withdraw withdraws an order if it is still open, and cancels its pending questions.
func (d *Desk) Withdraw(id int64) {
	d.cancel(errWithdrawn, id)
}

func (d *Desk) cancel(cause error, ids ...int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		if cancel := d.open[id]; cancel != nil {
			cancel(cause)
		}
	}
}

// Totals returns the current totals.
func (d *Desk) Totals() Totals {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.totals
	t.Open = int64(len(d.open))
	return t
}

// Audit checks the books. It returns an error if they do not add up, which would be a bug.
func (d *Desk) Audit() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.totals.Audits++
	t := d.totals
	if settled := t.Accepted + t.Refused + t.Withdrawn + t.Returned; t.Taken != settled+int64(len(d.open)) {
		return fmt.Errorf("%d orders taken, but %d settled and %d open", t.Taken, settled, len(d.open))
	}
	var sum int64
	for _, cents := range d.sales {
		sum += cents
	}
	if sum != t.Revenue {
		return fmt.Errorf("sales are %d cents, but the revenue is %d", sum, t.Revenue)
	}
	return nil
}

// Close stops taking orders, cancels all pending questions, and returns when the host knows the outcome of every order.
func (d *Desk) Close() {
	d.mu.Lock()
	d.closed = true
	ids := make([]int64, 0, len(d.open))
	for id := range d.open {
		ids = append(ids, id)
	}
	d.mu.Unlock()
	d.cancel(ErrClosed, ids...)
	d.working.Wait()
}
