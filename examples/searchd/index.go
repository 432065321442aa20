package main

import (
	"cmp"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

// An index knows which documents contain which words. It keeps no text: that is read from files again when a
// hit is shown.
//
// Queries share the lock; a change holds it only to move numbers about, never while a file is read or counted.
// So every query sees each file either as it was or as it is, and never waits long.
type index struct {
	files fs.FS

	mu         sync.RWMutex
	terms      map[string]*term
	byName     map[string]*document
	byNumber   map[uint32]*document
	lastNumber uint32
	words      int // in all documents together, repetitions included
	generation int64
}

// A document is a file in the index. A changed file becomes a new document, so documents never change.
type document struct {
	number uint32
	name   string
	words  int     // repetitions included
	terms  []*term // for removal
}

// A term is a word that some document contains; when the last one goes, so does the term.
type term struct {
	word     string
	postings []posting // by document number, ascending
}

// A posting is one document's entry in a term. It has no pointers, so the garbage collector skips the bulk of
// the index.
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

// put adds a file, or replaces what the index knows of it.
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
			d.terms[i] = ix.term(t.word) // new, or dropped since it was looked up
		}
		// Numbers only grow, so appending keeps the order.
		d.terms[i].postings = append(d.terms[i].postings, posting{d.number, t.count, t.line})
	}
	ix.generation++
}

// remove forgets a file, if the index has it.
func (ix *index) remove(name string) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.drop(name) {
		ix.generation++
	}
}

// known looks the words' terms up, leaving nil for new words. This is most of the work of adding a file, and
// goes on beside queries and other files' as it needs the lock only for reading.
func (ix *index) known(tallies []tally) []*term {
	terms := make([]*term, len(tallies))
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	for i, t := range tallies {
		terms[i] = ix.terms[t.word]
	}
	return terms
}

// term finds the term of a word or makes it. The caller holds the lock.
func (ix *index) term(word string) *term {
	t := ix.terms[word]
	if t == nil {
		word = strings.Clone(word) // lest it keep the whole text of its file
		t = &term{word: word}
		ix.terms[word] = t
	}
	return t
}

// drop takes a file's document out and says whether there was one. The caller holds the lock.
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

// find says where in the postings a document is or would be.
func find(postings []posting, number uint32) (int, bool) {
	return slices.BinarySearchFunc(postings, number, func(p posting, number uint32) int {
		return cmp.Compare(p.document, number)
	})
}

// documents is the number of files in the index.
func (ix *index) documents() int {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return len(ix.byName)
}

// changes is how many files were ever added, changed or removed.
func (ix *index) changes() int64 {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.generation
}

// occurrences is the number of files that contain a word, in whatever case.
func (ix *index) occurrences(word string) int {
	word = strings.ToLower(word)
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if t := ix.terms[word]; t != nil {
		return len(t.postings)
	}
	return 0
}
