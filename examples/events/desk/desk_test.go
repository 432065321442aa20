package desk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// shop is a host. A price of n cents takes n seconds, a reservation takes one second.
type shop struct {
	mu   sync.Mutex
	told []Outcome
}

func (s *shop) Price(ctx context.Context, item string) (int64, error) {
	prices := map[string]int64{"nuts": 1, "bolts": 2, "anvils": 100}
	price, known := prices[item]
	if !known {
		return 0, fmt.Errorf("no price for %s", item)
	}
	return price, sleep(ctx, time.Duration(price)*time.Second)
}

func (s *shop) Reserve(ctx context.Context, item string, count int64) error {
	if count > 10 {
		return errors.New("not enough " + item)
	}
	return sleep(ctx, time.Second)
}

func (s *shop) Tell(o Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, o)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func take(t *testing.T, d *Desk, orders ...Order) {
	t.Helper()
	for _, o := range orders {
		if err := d.Take(o); err != nil {
			t.Fatal(err)
		}
	}
}

// after waits for d, and returns the outcomes that the host has been told by then.
func after(t *testing.T, s *shop, d time.Duration) string {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	var text []string
	for _, o := range s.told {
		text = append(text, fmt.Sprint(o.Order, " ", o.Verdict, " ", o.Cents))
	}
	return strings.Join(text, ", ")
}

func TestOrdersAreSettledAsAnswersComeAndNotAsTheyWereTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{}
		d := New(s)
		take(t, d, Order{1, "anvils", 2}, Order{2, "bolts", 3}, Order{3, "nuts", 10})
		if got := after(t, s, 2*time.Second); got != "3 accepted 10, 2 accepted 6" {
			t.Error(got)
		}
		if got, want := d.Totals(), (Totals{Taken: 3, Open: 1, Accepted: 2, Revenue: 16}); got != want {
			t.Errorf("%+v", got)
		}
		if got := after(t, s, 98*time.Second); !strings.HasSuffix(got, ", 1 accepted 200") {
			t.Error(got)
		}
	})
}

func TestWithoutAPriceOrStockItIsRefusedAndSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{}
		d := New(s)
		take(t, d, Order{1, "ghosts", 1}, Order{2, "nuts", 11}, Order{3, "ghosts", 11})
		after(t, s, time.Minute)
		why := map[int64]string{}
		for _, o := range s.told {
			if o.Verdict != Refused || o.Cents != 0 {
				t.Errorf("%+v", o)
			}
			why[o.Order] = o.Why
		}
		if why[1] != "no price for ghosts" || why[2] != "not enough nuts" || why[3] != "no price for ghosts\nnot enough ghosts" {
			t.Error(why)
		}
	})
}

func TestAWithdrawnOrderDoesNotWaitForItsAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{}
		d := New(s)
		take(t, d, Order{1, "anvils", 1}, Order{2, "anvils", 1})
		time.Sleep(time.Second)
		d.Withdraw(1)
		d.Withdraw(7) // no such order
		if got := after(t, s, 0); got != "1 withdrawn 0" {
			t.Error(got)
		}
		if got := after(t, s, time.Minute*2); got != "1 withdrawn 0, 2 accepted 100" {
			t.Error(got)
		}
		d.Withdraw(2) // too late
		if got, want := d.Totals(), (Totals{Taken: 2, Accepted: 1, Withdrawn: 1, Revenue: 100}); got != want {
			t.Errorf("%+v", got)
		}
	})
}

func TestCloseReturnsWhatIsOpenAndTakesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{}
		d := New(s)
		take(t, d, Order{1, "nuts", 1}, Order{2, "anvils", 1})
		time.Sleep(2 * time.Second)
		begin := time.Now()
		d.Close()
		if waited := time.Since(begin); waited != 0 {
			t.Error("it waited", waited)
		}
		if got := after(t, s, 0); got != "1 accepted 1, 2 returned 0" {
			t.Error(got)
		}
		if err := d.Take(Order{3, "nuts", 1}); err != ErrClosed {
			t.Error(err)
		}
		if err := d.Audit(); err != nil {
			t.Error(err)
		}
	})
}

func TestAnOrderForNothingOrTakenTwiceIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(&shop{})
		take(t, d, Order{1, "anvils", 1})
		if d.Take(Order{1, "nuts", 1}) == nil || d.Take(Order{2, "nuts", 0}) == nil {
			t.Error("taken")
		}
		d.Close()
	})
}

func TestTheBooksAddUpWhileAllGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{}
		d := New(s)
		for sender := range int64(4) {
			go func() {
				for n := range int64(100) {
					id := sender*100 + n
					d.Take(Order{id, []string{"nuts", "bolts", "anvils", "ghosts"}[id%4], 1 + id%12})
					time.Sleep(time.Millisecond)
					if n%10 == 0 {
						d.Withdraw(id)
					}
				}
			}()
		}
		for range 1000 {
			time.Sleep(time.Millisecond)
			if err := d.Audit(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		totals := d.Totals()
		if totals.Taken != 400 || totals.Open != 0 || totals.Withdrawn == 0 || len(s.told) != 400 {
			t.Errorf("%+v", totals)
		}
	})
}

func TestAudit(t *testing.T) {
	d := New(&shop{})
	d.totals.Revenue = 1
	if d.Audit() == nil {
		t.Error("a cent from nowhere")
	}
	d.totals = Totals{Taken: 1}
	if d.Audit() == nil {
		t.Error("an order is lost")
	}
}
