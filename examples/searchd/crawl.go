package main

import (
	"bytes"
	"io"
	"io/fs"
	"runtime"
	"sync"
)

const (
	maxSize = 4 << 20 // bytes; larger files are not indexed
	head    = 8 << 10 // bytes at the start of a file that are searched for a NUL, which text does not have
)

// A crawler keeps an index up to date with its files.
type crawler struct {
	index *index
	seen  map[string]stamp // the files of the last walk that could be read, text or not
}

// A stamp changes when a file does.
type stamp struct {
	modified, size int64
}

// A listing is a file's directory entry.
type listing struct {
	name  string
	entry fs.DirEntry
}

func newCrawler(ix *index) *crawler {
	return &crawler{index: ix}
}

// walk visits all files once and indexes those that changed since the last walk. Workers share the files, as even
// getting their stamps takes long when there are many.
func (c *crawler) walk() {
	var (
		listed  = make(chan listing)
		mu      sync.Mutex
		found   = make(map[string]stamp, len(c.seen))
		workers sync.WaitGroup
	)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			var content bytes.Buffer
			for file := range listed {
				if s, err := c.update(file, &content); err == nil {
					mu.Lock()
					found[file.name] = s
					mu.Unlock()
				}
			}
		})
	}
	list(c.index.files, listed)
	close(listed)
	workers.Wait()

	for name := range c.seen {
		if _, still := found[name]; !still {
			c.index.remove(name)
		}
	}
	c.seen = found
	c.index.completed()
}

// list sends the files of all folders, except folders that it cannot read: they may be gone already.
func list(files fs.FS, to chan<- listing) {
	fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case entry.Type().IsRegular():
			to <- listing{name, entry}
		}
		return nil
	})
}

// update indexes a file if it has changed, using a buffer for its content. The stamp is taken before the file is
// read, so the next walk notices a change in between.
func (c *crawler) update(file listing, content *bytes.Buffer) (stamp, error) {
	info, err := file.entry.Info()
	if err != nil {
		return stamp{}, err
	}
	s := stamp{info.ModTime().UnixNano(), info.Size()}
	if before, known := c.seen[file.name]; known && before == s {
		return s, nil
	}
	content.Reset()
	text, err := c.read(file.name, content)
	switch {
	case err != nil:
		return stamp{}, err
	case text:
		c.index.put(file.name, count(content.String()))
	default:
		c.index.remove(file.name)
	}
	return s, nil
}

// read reads a file into the buffer and reports whether it is text, and not too large; if not, it stops early.
func (c *crawler) read(name string, content *bytes.Buffer) (text bool, err error) {
	f, err := c.index.files.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, err = content.ReadFrom(io.LimitReader(f, head))
	if err != nil || bytes.IndexByte(content.Bytes(), 0) >= 0 {
		return false, err
	}
	_, err = content.ReadFrom(io.LimitReader(f, maxSize+1-head))
	return content.Len() <= maxSize, err
}
