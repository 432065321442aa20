package main

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// tokens yields the words of a text in lower case, each with its line number, counted from 1.
func tokens(text string) iter.Seq2[string, int] {
	text = strings.ToLower(text)
	return func(yield func(string, int) bool) {
		line, start := 1, -1
		for i, r := range text {
			if inWord(r) {
				if start < 0 {
					start = i
				}
				continue
			}
			if start >= 0 && !yield(text[start:i], line) {
				return
			}
			start = -1
			if r == '\n' {
				line++
			}
		}
		if start >= 0 {
			yield(text[start:], line)
		}
	}
}

// inWord reports whether a lower-case rune belongs to a word.
func inWord(r rune) bool {
	if r < utf8.RuneSelf {
		return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '_'
	}
	return unicode.IsLetter(r) || unicode.IsDigit(r)
}

// tally is the number of times that a text contains a word, and the first line with it.
type tally struct {
	word        string
	count, line uint32
}

// count tallies the words of a text. The words share the text's memory: clone those that you keep.
func count(text string) []tally {
	var tallies []tally
	at := map[string]int{}
	for word, line := range tokens(text) {
		i, known := at[word]
		if !known {
			i = len(tallies)
			at[word] = i
			tallies = append(tallies, tally{word: word, line: uint32(line)})
		}
		tallies[i].count++
	}
	return tallies
}

// distinct returns the words of a text, each once.
func distinct(text string) []string {
	var words []string
	for _, t := range count(text) {
		words = append(words, t.word)
	}
	return words
}
