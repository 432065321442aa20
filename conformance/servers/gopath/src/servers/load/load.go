// Package load runs an exchange again and again, in many clients at once. It prints what came of that as JSON.
package load

import (
	"encoding/json"
	"flag"
	"log"
	"os"
	"slices"
	"sync"
	"time"
)

var (
	address = flag.String("address", "", "where the server listens")
	clients = flag.Int("clients", 64, "how many clients there are at once")
	length  = flag.Duration("time", 10*time.Second, "how long they go on")
)

// Client is one client's connection. Exchange fails if an answer is not what it must be.
type Client struct {
	Exchange func() error
	Close    func() error
}

// Main connects the clients and runs them. The first error ends the program.
func Main(connect func(address string, client int) (Client, error)) {
	log.SetFlags(0)
	flag.Parse()
	connected := make([]Client, *clients)
	each(func(i int) (err error) {
		connected[i], err = connect(*address, i)
		return err
	})
	begin := time.Now()
	latencies := make([][]time.Duration, *clients)
	each(func(i int) error {
		for last := begin; last.Sub(begin) < *length; {
			if err := connected[i].Exchange(); err != nil {
				return err
			}
			now := time.Now()
			latencies[i] = append(latencies[i], now.Sub(last))
			last = now
		}
		return nil
	})
	seconds := time.Since(begin).Seconds()
	each(func(i int) error { return connected[i].Close() })
	all := slices.Concat(latencies...)
	slices.Sort(all)
	json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"exchanges": float64(len(all)), "seconds": seconds,
		"p50_ms": milliseconds(all[len(all)/2]), "p99_ms": milliseconds(all[len(all)*99/100])})
}

// each calls a function for every client at the same time.
func each(do func(client int) error) {
	var all sync.WaitGroup
	for i := range *clients {
		all.Go(func() {
			if err := do(i); err != nil {
				log.Fatalf("client %d: %v", i, err)
			}
		})
	}
	all.Wait()
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Nothing is to be done to close a client.
func Nothing() error { return nil }
