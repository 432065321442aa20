package main

import (
	"sync"
	"time"
)

// request is a question to a server goroutine, and where the answer goes.
type request struct {
	value  int64
	answer chan int64
}

// server starts at its first use. It starts a goroutine for each question, like a program that queries a database.
var server = sync.OnceValue(func() chan<- request {
	requests := make(chan request)
	go func() {
		for r := range requests {
			go func() {
				time.Sleep(2 * time.Millisecond) // the time of the query
				r.answer <- r.value * 2
			}()
		}
	}()
	return requests
})

// ask waits for another goroutine's answer, which takes 2 ms.
//
//go:wasmexport ask
func ask(value int64) int64 {
	answer := make(chan int64)
	server() <- request{value, answer}
	return <-answer
}

// desk answers each question at once.
var desk = sync.OnceValue(func() chan<- request {
	requests := make(chan request)
	go func() {
		for r := range requests {
			r.answer <- 2 * r.value
		}
	}()
	return requests
})

// trip asks another goroutine, which answers at once: the bare cost of waiting.
//
//go:wasmexport trip
func trip(value int64) int64 {
	answer := make(chan int64)
	desk() <- request{value, answer}
	return <-answer
}

var meeting = struct {
	sync.Mutex
	*sync.Cond
	present, round int64
}{}

func init() { meeting.Cond = sync.NewCond(&meeting.Mutex) }

// meet waits until that many calls are in it, and returns the number of the meeting: calls that wait for other calls.
//
//go:wasmexport meet
func meet(calls int64) int64 {
	meeting.Lock()
	defer meeting.Unlock()
	round := meeting.round
	meeting.present++
	if meeting.present == calls {
		meeting.present = 0
		meeting.round++
		meeting.Broadcast()
	}
	for meeting.round == round {
		meeting.Wait()
	}
	return round
}

// ring sends a token around a ring of goroutines for some laps. The token counts how often it was passed on.
//
//go:wasmexport ring
func ring(goroutines, laps int64) int64 {
	first := make(chan int64)
	from := first
	for range goroutines - 1 {
		to := make(chan int64)
		go func(from <-chan int64, to chan<- int64) {
			for token := range from {
				to <- token + 1
			}
			close(to)
		}(from, to)
		from = to
	}
	token := int64(0)
	for range laps {
		first <- token
		token = <-from + 1
	}
	close(first)
	<-from
	return token
}
