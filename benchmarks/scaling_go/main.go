// Command scaling does several kinds of work in a number of goroutines, and prints how long each took: a line of JSON,
// in nanoseconds.
//
//	scaling GOROUTINES TIMES [KIND…]
//
// Every goroutine does the same work, whatever their number: if two take as long as one, they are twice as fast.
// Results are checked.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A kind of work: do does as much of it as takes some tens of milliseconds natively.
type kind struct {
	name string
	do   func(goroutines int)
}

var kinds = []kind{
	{"cpu", func(n int) { together(n, func(int) { check(fibonacci(32), 2178309) }) }},
	{"alloc", func(n int) { together(n, func(int) { check(trees(17), 17*(1<<17-1)) }) }},
	{"mixed", func(n int) { together(n, mixed) }},
	{"mutex", mutexes},
	{"channel", channels},
	{"spawn", spawns},
	{"pool", pools},
	{"timers", timers},
}

func check[T comparable](got, want T) {
	if got != want {
		panic(fmt.Sprintf("%v, not %v", got, want))
	}
}

// together runs work in n goroutines.
func together(n int, work func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { work(i) })
	}
	all.Wait()
}

func fibonacci(n int) int {
	if n < 2 {
		return n
	}
	return fibonacci(n-1) + fibonacci(n-2)
}

type tree struct{ left, right *tree }

func grow(depth int) *tree {
	if depth == 1 {
		return &tree{}
	}
	return &tree{grow(depth - 1), grow(depth - 1)}
}

func (t *tree) size() int {
	if t == nil {
		return 0
	}
	return 1 + t.left.size() + t.right.size()
}

func trees(depth int) int {
	sum := 0
	for range depth {
		sum += grow(depth).size()
	}
	return sum
}

type record struct {
	Name  string            `json:"name"`
	Tags  []string          `json:"tags"`
	Score float64           `json:"score"`
	More  map[string]string `json:"more"`
}

// mixed does what services typically do: JSON, maps, sorting, strings, a channel, and garbage.
func mixed(seed int) {
	counts := map[string]int{}
	lines := make(chan string, 16)
	done := make(chan int)
	go func() {
		total := 0
		for line := range lines {
			total += len(line)
		}
		done <- total
	}()
	x, sent := uint32(seed+1), 0
	for n := range 600 {
		x = x*1664525 + 1013904223
		r := record{Name: "name " + strconv.Itoa(int(x>>20)), Tags: []string{"a", strconv.Itoa(n % 17), "c"}, Score: float64(x>>8) / 7,
			More: map[string]string{"k" + strconv.Itoa(n%5): strings.Repeat("v", n%23)}}
		text, err := json.Marshal(r)
		if err != nil {
			panic(err)
		}
		var back record
		if err := json.Unmarshal(text, &back); err != nil {
			panic(err)
		}
		check(back.Name, r.Name)
		counts[back.Tags[1]]++
		line := strings.ToUpper(string(text))
		sent += len(line)
		lines <- line
	}
	close(lines)
	check(<-done, sent)
	keys := make([]string, 0, len(counts))
	for key := range counts {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	numbers := make([]uint32, 20000)
	for i := range numbers {
		x = x*1664525 + 1013904223
		numbers[i] = x
	}
	slices.Sort(numbers)
	check(slices.IsSorted(numbers) && sort.StringsAreSorted(keys) && len(keys) == 17, true)
}

// mutexes counts in all goroutines under one lock.
func mutexes(n int) {
	var mu sync.Mutex
	count := 0
	together(n, func(int) {
		for range 200_000 {
			mu.Lock()
			count++
			mu.Unlock()
		}
	})
	check(count, 200_000*n)
}

// channels passes values back and forth between pairs of goroutines, without a buffer.
func channels(n int) {
	together(n, func(int) {
		forth, back := make(chan int), make(chan int)
		go func() {
			for v := range forth {
				back <- v + 1
			}
		}()
		for i := range 30_000 {
			forth <- i
			check(<-back, i+1)
		}
		close(forth)
	})
}

// spawns starts goroutines that end at once.
func spawns(n int) {
	var count atomic.Int64
	together(n, func(int) {
		var all sync.WaitGroup
		for range 30_000 {
			all.Go(func() { count.Add(1) })
		}
		all.Wait()
	})
	check(count.Load(), int64(30_000*n))
}

// pools takes objects from a sync.Pool and returns them.
func pools(n int) {
	pool := sync.Pool{New: func() any { return new([1024]byte) }}
	together(n, func(int) {
		for range 300_000 {
			block := pool.Get().(*[1024]byte)
			block[0]++
			pool.Put(block)
		}
	})
}

// timers lets goroutines sleep for a short while.
func timers(n int) {
	together(n, func(int) {
		var all sync.WaitGroup
		for range 2_000 {
			all.Go(func() { time.Sleep(time.Millisecond) })
		}
		all.Wait()
	})
}

func main() {
	goroutines, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	times, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	fastest := map[string]int64{}
	for _, kind := range kinds {
		if len(os.Args) > 3 && !slices.Contains(os.Args[3:], kind.name) {
			continue
		}
		best := int64(0)
		for range times {
			begin := time.Now()
			kind.do(goroutines)
			if taken := time.Since(begin).Nanoseconds(); best == 0 || taken < best {
				best = taken
			}
		}
		fastest[kind.name] = best
	}
	if err := json.NewEncoder(os.Stdout).Encode(fastest); err != nil {
		panic(err)
	}
}
