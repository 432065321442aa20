package main

import "gothreads/guest"

func init() {
	guest.Handle("search", library.answer)
}

// documents is the current number of files in the index. It grows during the first walk.
//
//go:wasmexport documents
func documents() int64 {
	return int64(library.documents())
}

// generation grows by one each time a file is added to the index, changed or removed. As long as it stays the same,
// so do the answers.
//
//go:wasmexport generation
func generation() int64 {
	return library.changes()
}

// occurrences is the number of files that contain a word. Case does not matter.
//
//go:wasmexport occurrences
func occurrences(word string) int64 {
	return int64(library.occurrences(word))
}

// search is the handler of that name, as a function of Python.
//
//gothreads:export
func search(query string, limit int) (reply, error) {
	return library.reply(request{query, limit})
}
