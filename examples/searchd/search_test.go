package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

func TestAllWordsMustOccur(t *testing.T) {
	f := newFixture(t,
		"1", "red apple",
		"2", "green apple",
		"3", "red pear\n\napple",
		"4", "RED",
	)
	f.finds("red apple", "1", "3")
	f.finds("Apple RED", "1", "3")
	f.finds("red red", "4", "1", "3") // a repeated word counts once
	f.finds("apple, pear!", "3")
	f.finds("red blue")
	f.finds("blue")
	f.finds("app")
}

func TestOrder(t *testing.T) {
	f := newFixture(t,
		"b", "apple x x x",
		"a", "apple x x x",
		"often", "apple apple x x",
		"long", "apple"+strings.Repeat(" x", 100),
	)
	f.finds("apple", "often", "a", "b", "long")
	hits := f.ask("apple").Hits
	for i, h := range hits {
		if h.Score <= 0 || i > 0 && h.Score > hits[i-1].Score {
			t.Errorf("scores are not positive and descending: %v", hits)
		}
	}
}

func TestRareWordsWeighMore(t *testing.T) {
	f := newFixture(t, "a", "rare common common", "b", "rare rare common", "c", "common", "d", "common")
	f.finds("rare common", "b", "a")
}

func TestLineIsTheFirstWithMostWords(t *testing.T) {
	f := newFixture(t, "a", "red\nblue green\n\n\t Green red blue\t\nred green blue\n")
	for query, want := range map[string]hit{
		"red":            {Line: 1, Text: "red"},
		"blue red green": {Line: 4, Text: "Green red blue"},
		"green blue":     {Line: 2, Text: "blue green"},
	} {
		got := f.ask(query).Hits[0]
		if got.Line != want.Line || got.Text != want.Text {
			t.Errorf("%q shows line %d %q, want %d %q", query, got.Line, got.Text, want.Line, want.Text)
		}
	}
}

func TestLongLineIsCut(t *testing.T) {
	f := newFixture(t, "a", strings.Repeat("é ", 1000))
	text := f.ask("é").Hits[0].Text
	if n := utf8.RuneCountInString(text); n != 201 || !strings.HasSuffix(text, "…") {
		t.Errorf("%d characters: %q", n, text)
	}
}

func TestFileThatHasChangedOrGoneIsStillShown(t *testing.T) {
	f := newFixture(t, "changed", "\nred apple", "gone", "\n\nred apple")
	f.write("changed", "nothing")
	f.delete("gone")
	for _, h := range f.ask("red").Hits {
		want := map[string]int{"changed": 2, "gone": 3}[h.File]
		if h.Line != want || h.Text != "" {
			t.Errorf("%s shows line %d %q, want %d and no text", h.File, h.Line, h.Text, want)
		}
	}
}

func TestOccurrences(t *testing.T) {
	f := newFixture(t, "a", "apple Apple", "b", "apple pear")
	for word, want := range map[string]int{"apple": 2, "APPLE": 2, "pear": 1, "plum": 0, "": 0} {
		if got := f.index.occurrences(word); got != want {
			t.Errorf("%q is in %d files, want %d", word, got, want)
		}
	}
}

// TestQueriesWhileIndexing changes files while queries run. At every moment they must find each file, in one state or
// the other.
func TestQueriesWhileIndexing(t *testing.T) {
	f := newFixture(t)
	for i := range 20 {
		f.index.put(fmt.Sprint(i), count("always here even"))
	}
	done := make(chan struct{})
	var writers, readers sync.WaitGroup
	for i := range 20 {
		writers.Go(func() {
			for n := range 200 {
				parity := []string{"even", "odd"}[n%2]
				f.index.put(fmt.Sprint(i), count(fmt.Sprintf("always here %s unique%d_%d", parity, i, n)))
			}
		})
	}
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if got := len(f.index.search([]string{"here", "always"}).matches); got != 20 {
					t.Errorf("%d files, want 20", got)
					return
				}
				if got := len(f.index.search([]string{"even", "odd"}).matches); got != 0 {
					t.Errorf("%d files are in two states at once", got)
					return
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	f.holds(20, 20+20*200)
	if got := len(f.index.terms); got != 3+20 {
		t.Errorf("%d words, want always, here, odd and 20 unique ones", got)
	}
}
