// Command files reads and writes files: "read FILE" reads a file in pieces of 64 KiB; "small FOLDER N" writes N files of
// a kilobyte, reads each, and removes them; "walk FOLDER" lists all folders in a folder. It prints how many seconds that
// took.
package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const perFolder = 1000

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	began := time.Now()
	switch os.Args[1] {
	case "read":
		read(os.Args[2])
	case "walk":
		if err := filepath.WalkDir(os.Args[2], func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			panic(err)
		}
	case "small":
		small(os.Args[2], must(strconv.Atoi(os.Args[3])))
	}
	fmt.Println(time.Since(began).Seconds())
}

func read(path string) {
	file := must(os.Open(path))
	defer file.Close()
	size := must(file.Stat()).Size()
	buffer := make([]byte, 64<<10)
	for {
		n, err := file.Read(buffer)
		size -= int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			panic(err)
		}
	}
	if size != 0 {
		panic(fmt.Sprint(size, " bytes are missing"))
	}
}

func small(folder string, count int) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 64)
	for n := range count {
		if n%perFolder == 0 {
			if err := os.Mkdir(parent(folder, n), 0o755); err != nil {
				panic(err)
			}
		}
		if err := os.WriteFile(path(folder, n), content, 0o644); err != nil {
			panic(err)
		}
	}
	for n := range count {
		if !bytes.Equal(must(os.ReadFile(path(folder, n))), content) {
			panic(path(folder, n))
		}
	}
	for n := range count {
		if err := os.Remove(path(folder, n)); err != nil {
			panic(err)
		}
	}
}

func parent(folder string, n int) string { return filepath.Join(folder, strconv.Itoa(n/perFolder)) }

func path(folder string, n int) string { return filepath.Join(parent(folder, n), strconv.Itoa(n)) }
