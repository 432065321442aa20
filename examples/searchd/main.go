// Searchd keeps a full-text index of a folder and answers queries about it.
//
// Main indexes the folder repeatedly, and never returns. Meanwhile the host calls the exports in exports_wasip1.go,
// from any number of threads.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"time"
)

// pause is the time between two walks. Including the walk itself, a change is found within about two seconds.
const pause = time.Second

// library is the index of the folder that the program was started with. It is a package variable because
// exported functions have no other way to find it.
var library = newIndex(os.DirFS(folder()))

// folder returns the program's only argument, or "".
func folder() string {
	if len(os.Args) != 2 {
		return ""
	}
	return os.Args[1]
}

func main() {
	if folder() == "" {
		fail("it takes one folder")
	}
	if _, err := fs.ReadDir(library.files, "."); err != nil {
		fail(fmt.Sprintf("cannot read the folder %q, is it there, and mounted? %v", folder(), err))
	}
	start := time.Now()
	c := newCrawler(library)
	c.walk()
	fmt.Fprintf(os.Stderr, "searchd: %d files indexed in %v\n",
		library.documents(), time.Since(start).Round(time.Millisecond))
	for {
		time.Sleep(pause)
		c.walk()
	}
}

// fail ends the program because it was started wrongly.
func fail(why string) {
	fmt.Fprintf(os.Stderr, "searchd: %s\nusage: searchd FOLDER\n", why)
	os.Exit(2)
}
