package main

import (
	"sync"
	"time"
)

// request is a question to the goroutine that serves, and where the answer goes.
type request struct {
	value  int64
	answer chan int64
}

// server begins to serve when it is asked first: for each question a goroutine, as in a program that asks a database.
var server = sync.OnceValue(func() chan<- request {
	requests := make(chan request)
	go func() {
		for r := range requests {
			go func() {
				time.Sleep(2 * time.Millisecond) // what it asks takes its time
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

// trip asks another goroutine, which answers at once: what waiting costs by itself.
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
	there, round int64
}{}

func init() { meeting.Cond = sync.NewCond(&meeting.Mutex) }

// meet waits until so many calls are in, and gives the number of the meeting: a call waits for what other calls bring.
//
//go:wasmexport meet
func meet(calls int64) int64 {
	meeting.Lock()
	defer meeting.Unlock()
	round := meeting.round
	meeting.there++
	if meeting.there == calls {
		meeting.there = 0
		meeting.round++
		meeting.Broadcast()
	}
	for meeting.round == round {
		meeting.Wait()
	}
	return round
}

// ring sends a token around a ring of goroutines, so many laps. The token counts how often it was handed on.
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
