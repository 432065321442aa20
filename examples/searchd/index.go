package main

import (
	"cmp"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

// An index knows which documents contain which words. It keeps no text: a hit's text is read from its file again when
// it is shown.
//
// Queries share the lock. A change holds it only to update numbers, never while a file is read or counted. So every
// query sees each file either before or after a change, and never waits long.
type index struct {
	files fs.FS

	mu         sync.RWMutex
	terms      map[string]*term
	byName     map[string]*document
	byNumber   map[uint32]*document
	lastNumber uint32
	words      int // in all documents, repetitions included
	generation int64
	complete   bool // whether all files have been indexed once
}

// A document is a file in the index. A changed file becomes a new document, so documents never change.
type document struct {
	number uint32
	name   string
	words  int     // repetitions included
	terms  []*term // for removal
}

// A term is a word that at least one document contains. It is removed with the last such document.
type term struct {
	word     string
	postings []posting // sorted by document number
}

// A posting is one document's entry in a term. It has no pointers, so the garbage collector skips most of the index.
type posting struct {
	document, count, line uint32
}

func newIndex(files fs.FS) *index {
	return &index{
		files:    files,
		terms:    map[string]*term{},
		byName:   map[string]*document{},
		byNumber: map[uint32]*document{},
	}
}

// put adds a file, or replaces its entry.
func (ix *index) put(name string, tallies []tally) {
	d := &document{name: name, terms: ix.known(tallies)}
	for _, t := range tallies {
		d.words += int(t.count)
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.drop(name)
	ix.lastNumber++
	d.number = ix.lastNumber
	ix.byName[name], ix.byNumber[d.number] = d, d
	ix.words += d.words
	for i, t := range tallies {
		if d.terms[i] == nil || len(d.terms[i].postings) == 0 {
			d.terms[i] = ix.term(t.word) // new, or removed since it was looked up
		}
		// Document numbers only grow, so appending keeps the postings sorted.
		d.terms[i].postings = append(d.terms[i].postings, posting{d.number, t.count, t.line})
	}
	ix.generation++
}

// remove removes a file, if the index has it.
func (ix *index) remove(name string) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.drop(name) {
		ix.generation++
	}
}

// known looks up the terms of the words; those of new words are nil. This is most of the work of adding a file. It
// needs the lock only for reading, so it runs concurrently with queries and with the same work for other files.
func (ix *index) known(tallies []tally) []*term {
	terms := make([]*term, len(tallies))
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	for i, t := range tallies {
		terms[i] = ix.terms[t.word]
	}
	return terms
}

// term returns the term of a word, and creates it if necessary. The caller holds the lock.
func (ix *index) term(word string) *term {
	t := ix.terms[word]
	if t == nil {
		word = strings.Clone(word) // a substring would keep the whole text of its file alive
		t = &term{word: word}
		ix.terms[word] = t
	}
	return t
}

// drop removes a file's document and reports whether there was one. The caller holds the lock.
func (ix *index) drop(name string) bool {
	d := ix.byName[name]
	if d == nil {
		return false
	}
	for _, t := range d.terms {
		if t.remove(d.number); len(t.postings) == 0 {
			delete(ix.terms, t.word)
		}
	}
	delete(ix.byName, name)
	delete(ix.byNumber, d.number)
	ix.words -= d.words
	return true
}

func (t *term) remove(number uint32) {
	if i, found := find(t.postings, number); found {
		t.postings = slices.Delete(t.postings, i, i+1)
	}
}

// find returns the position in the postings where a document is or would be, and whether it is there.
func find(postings []posting, number uint32) (int, bool) {
	return slices.BinarySearchFunc(postings, number, func(p posting, number uint32) int {
		return cmp.Compare(p.document, number)
	})
}

// documents returns the number of files in the index.
func (ix *index) documents() int {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return len(ix.byName)
}

// changes returns how often a file has been added, changed or removed.
func (ix *index) changes() int64 {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.generation
}

// completed notes that all files have been indexed once.
func (ix *index) completed() {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.complete = true
}

// occurrences returns the number of files that contain a word. Case does not matter.
func (ix *index) occurrences(word string) int {
	word = strings.ToLower(word)
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if t := ix.terms[word]; t != nil {
		return len(t.postings)
	}
	return 0
}
