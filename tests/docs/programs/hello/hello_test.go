package main

import "testing"

func TestGreeting(t *testing.T) {
	if got := Greeting("world"); got != "hello, WORLD" {
		t.Error(got)
	}
}

func BenchmarkGreeting(b *testing.B) {
	for b.Loop() {
		Greeting("world")
	}
}

func FuzzUpper(f *testing.F) {
	f.Add("world")
	f.Fuzz(func(t *testing.T, name string) { Greeting(name) })
}
