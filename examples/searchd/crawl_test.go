package main

import (
	"io/fs"
	"strings"
	"testing"
)

func TestWalkFindsNewChangedAndRemovedFiles(t *testing.T) {
	f := newFixture(t, "a.txt", "red apple", "deep/er/b.txt", "green pear")
	f.holds(2, 2)
	f.finds("apple", "a.txt")
	f.finds("pear", "deep/er/b.txt")

	f.walk()
	f.holds(2, 2) // nothing has changed

	f.write("a.txt", "yellow lemon")
	f.write("c.txt", "green apple")
	f.walk()
	f.holds(3, 4)
	f.finds("apple", "c.txt")
	f.finds("lemon", "a.txt")

	f.delete("deep")
	f.walk()
	f.holds(2, 5)
	f.finds("pear")
	f.finds("green", "c.txt")
}

func TestRemovedWordsLeaveNothingBehind(t *testing.T) {
	f := newFixture(t, "a", "one two two", "b", "two three")
	f.delete("a")
	f.delete("b")
	f.walk()
	f.holds(0, 4)
	if len(f.index.terms) != 0 || len(f.index.byNumber) != 0 || f.index.words != 0 {
		t.Errorf("an empty folder leaves %v, %v and %d words", f.index.terms, f.index.byNumber, f.index.words)
	}
}

func TestWalkSkips(t *testing.T) {
	f := newFixture(t,
		"text", "apple",
		"empty", "",
		".git/config", "apple",
		"sub/.git/HEAD", "apple",
		"binary", "apple\x00",
		"late NUL", strings.Repeat("x ", head)+"\x00 apple",
		"full", strings.Repeat("a ", maxSize/2),
		"over", strings.Repeat("a ", maxSize/2)+"a",
	)
	f.finds("apple", "text", "late NUL")
	f.finds("a", "full")
	f.holds(4, 4)
}

func TestFileThatIsNoLongerTextIsRemoved(t *testing.T) {
	f := newFixture(t, "a", "apple")
	f.write("a", "apple\x00")
	f.walk()
	f.holds(0, 2)
	f.finds("apple")
}

// A lockedFS refuses to open one file.
type lockedFS struct {
	fs.FS
	name string
}

func (l *lockedFS) Open(name string) (fs.File, error) {
	if name == l.name {
		return nil, fs.ErrPermission
	}
	return l.FS.Open(name)
}

func TestUnreadableFileIsTriedAgain(t *testing.T) {
	f := newFixture(t, "a", "apple", "b", "apple")
	lock := &lockedFS{f.index.files, "a"}
	f.index.files = lock
	f.write("a", "green apple")
	f.walk()
	f.holds(1, 3)
	f.walk()
	f.holds(1, 3)
	lock.name = ""
	f.walk()
	f.holds(2, 4)
	f.finds("green", "a")
}
