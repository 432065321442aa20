package main

import (
	"bufio"
	"cmp"
	"math"
	"slices"
	"strings"
)

// A hit is one file that has all the words of a query.
type hit struct {
	File  string  `json:"file"`
	Line  int     `json:"line"`
	Text  string  `json:"text"`
	Score float64 `json:"score"`
}

// A match is a hit whose file has not been read yet. It is small, 24 bytes, as there may be very many to sort.
type match struct {
	document *document
	score    float64
	line     uint32
}

// found is the index's answer to a query. All of it is from one moment.
type found struct {
	matches    []match // the best first
	generation int64
	documents  int
	complete   bool // whether the folder has been indexed once
}

// search finds the files that contain all of the words. It reads no files.
func (ix *index) search(words []string) found {
	f := ix.match(words)
	slices.SortFunc(f.matches, func(a, b match) int {
		if a.score != b.score {
			return cmp.Compare(b.score, a.score)
		}
		return cmp.Compare(a.document.name, b.document.name)
	})
	return f
}

// match finds the files, in no particular order. It looks for each document of the rarest word in the lists of the
// other words.
func (ix *index) match(words []string) found {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	f := found{generation: ix.generation, documents: len(ix.byName), complete: ix.complete}
	lists, ok := ix.lists(words)
	if !ok {
		return f
	}
	weights := make([]float64, len(lists))
	for i, list := range lists {
		weights[i] = rarity(len(list), len(ix.byName))
	}
	average := float64(ix.words) / float64(len(ix.byName))
	for _, first := range lists[0] {
		d := ix.byNumber[first.document]
		length := float64(d.words) / average
		score := weights[0] * saturation(first.count, length)
		all := true
		for i := 1; i < len(lists) && all; i++ {
			var at int
			at, all = find(lists[i], first.document)
			lists[i] = lists[i][at:] // documents are sorted, so the earlier ones are no longer needed
			if all {
				score += weights[i] * saturation(lists[i][0].count, length)
			}
		}
		if all {
			f.matches = append(f.matches, match{d, score, first.line})
		}
	}
	return f
}

// lists collects the postings of the words, the rarest first; ok is false if a word does not occur. The caller holds
// the lock for as long as it uses them.
func (ix *index) lists(words []string) (lists [][]posting, ok bool) {
	for _, word := range words {
		t := ix.terms[word]
		if t == nil {
			return nil, false
		}
		lists = append(lists, t.postings)
	}
	slices.SortFunc(lists, func(a, b []posting) int { return cmp.Compare(len(a), len(b)) })
	return lists, true
}

// rarity and saturation are the two factors of BM25, with its usual constants. The fewer documents have a word, the
// more it counts. Each repetition counts less than the one before, especially in long documents.
func rarity(having, all int) float64 {
	return math.Log(1 + (float64(all-having)+0.5)/(float64(having)+0.5))
}

func saturation(count uint32, length float64) float64 {
	const k, b = 1.2, 0.75
	n := float64(count)
	return n * (k + 1) / (n + k*(1-b+b*length))
}

// show searches a match's file for the first line that has the most of the words. If the file has changed or gone since
// it was indexed, the hit has the line number from the index, and no text.
func (ix *index) show(m match, words []string) hit {
	h := hit{File: m.document.name, Line: int(m.line), Score: m.score}
	f, err := ix.files.Open(h.File)
	if err != nil {
		return h
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxSize+1)
	most := 0
	for number := 1; most < len(words) && lines.Scan(); number++ {
		line := lines.Text()
		if n := common(line, words); n > most {
			most = n
			h.Line, h.Text = number, excerpt(line)
		}
	}
	return h
}

// common returns how many of the words a line has.
func common(line string, words []string) int {
	n := 0
	has := make([]bool, len(words))
	for word := range tokens(line) {
		if i := slices.Index(words, word); i >= 0 && !has[i] {
			has[i] = true
			n++
		}
	}
	return n
}

// excerpt shortens a line for display.
func excerpt(line string) string {
	const length = 200
	line = strings.TrimSpace(line)
	shown := 0
	for i := range line {
		if shown == length {
			return line[:i] + "…"
		}
		shown++
	}
	return line
}
