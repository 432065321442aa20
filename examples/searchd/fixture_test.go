package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A fixture is a temporary folder and the crawler that indexes it.
type fixture struct {
	*crawler
	t   *testing.T
	dir string
}

// newFixture writes files, given as name, content, name, content, …, and indexes them.
func newFixture(t *testing.T, files ...string) *fixture {
	dir := t.TempDir()
	f := &fixture{newCrawler(newIndex(os.DirFS(dir))), t, dir}
	for pair := range slices.Chunk(files, 2) {
		f.write(pair[0], pair[1])
	}
	f.walk()
	return f
}

func (f *fixture) path(name string) string {
	return filepath.Join(f.dir, filepath.FromSlash(name))
}

func (f *fixture) write(name, content string) {
	f.t.Helper()
	if err := os.MkdirAll(filepath.Dir(f.path(name)), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(f.path(name), []byte(content), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) delete(name string) {
	f.t.Helper()
	if err := os.RemoveAll(f.path(name)); err != nil {
		f.t.Fatal(err)
	}
}

// ask sends a request and returns the reply as a client decodes it.
func (f *fixture) ask(query string) reply {
	f.t.Helper()
	answer, err := f.index.answer(fmt.Appendf(nil, `{"query": %q}`, query))
	if err != nil {
		f.t.Fatal(err)
	}
	var r reply
	if err := json.Unmarshal(answer, &r); err != nil {
		f.t.Fatal(err)
	}
	return r
}

// finds checks which files a query finds, in order.
func (f *fixture) finds(query string, want ...string) {
	f.t.Helper()
	var got []string
	for _, h := range f.ask(query).Hits {
		got = append(got, h.File)
	}
	if !slices.Equal(got, want) {
		f.t.Errorf("%q finds %q, want %q", query, got, want)
	}
}

// holds checks the numbers of files and changes.
func (f *fixture) holds(documents int, generation int64) {
	f.t.Helper()
	if got := f.index.documents(); got != documents {
		f.t.Errorf("%d documents, want %d", got, documents)
	}
	if got := f.index.changes(); got != generation {
		f.t.Errorf("generation %d, want %d", got, generation)
	}
}
