// Program is what the tests of the optimizer read: loops, switches, closures, goroutines, defers, panics, floats.
package main

import (
	"fmt"
	"math"
	"os"
	"sort"
	"strings"
	"sync"
)

type shape interface{ area() float64 }

type square struct{ side float64 }

func (s square) area() float64 { return s.side * s.side }

type circle struct{ radius float64 }

func (c circle) area() float64 { return math.Pi * c.radius * c.radius }

// jumps has a loop that two jumps enter: it is not reducible.
func jumps(n int) (sum int) {
	if n%2 == 0 {
		goto even
	}
odd:
	sum += n
	n--
	if n > 0 {
		goto even
	}
	return sum
even:
	sum -= n
	n--
	if n > 0 {
		goto odd
	}
	return sum
}

func kind(n int) string {
	switch {
	case n < 0:
		return "negative"
	case n%15 == 0:
		return "fizzbuzz"
	case n%5 == 0:
		return "buzz"
	case n%3 == 0:
		return "fizz"
	}
	switch n {
	case 1, 2, 4, 7, 8, 11, 13, 14, 16, 17, 19, 22:
		return fmt.Sprint(n)
	default:
		return "large"
	}
}

func recovered(f func()) (message string) {
	defer func() { message = fmt.Sprint(recover()) }()
	f()
	return "no panic"
}

func deep(n int) int {
	var pad [64]int
	if n == 0 {
		return 0
	}
	pad[n%64] = n
	return deep(n-1) + pad[n%64]
}

func main() {
	words := strings.Fields(strings.Repeat("the quick brown fox jumps over the lazy dog ", 20))
	counts := map[string]int{}
	for _, word := range words {
		counts[word]++
	}
	names := make([]string, 0, len(counts))
	for name := range counts {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Println(name, counts[name])
	}
	for n := -1; n < 32; n++ {
		fmt.Print(kind(n), " ", jumps(n), " ")
	}
	fmt.Println()
	var total float64
	for i, s := range []shape{square{2}, circle{1}, square{0.5}, circle{3}} {
		total += s.area() * float64(i+1)
	}
	fmt.Printf("%.6f\n", total)
	fmt.Println(recovered(func() { panic("mine") }))
	var none []int
	fmt.Println(recovered(func() { fmt.Println(none[len(names)]) }))
	var nobody *square
	fmt.Println(recovered(func() { fmt.Println(nobody.side) }))
	fmt.Println(deep(20000))

	numbers, sums := make(chan int), make(chan int)
	var workers sync.WaitGroup
	for range 4 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			sum := 0
			for n := range numbers {
				sum += n * n
			}
			sums <- sum
		}()
	}
	go func() {
		for n := range 1000 {
			numbers <- n
		}
		close(numbers)
		workers.Wait()
		close(sums)
	}()
	sum := 0
	for s := range sums {
		sum += s
	}
	fmt.Println(sum)
	if len(os.Args) > 1 {
		panic(os.Args[1])
	}
}
