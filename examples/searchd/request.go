package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// A request is the payload of a search, and a reply is its answer.
type request struct {
	Query string `json:"query"`
	Limit int    `json:"limit"`
}

type reply struct {
	Note       string `json:"note,omitempty"` // while the folder is indexed for the first time
	Hits       []hit  `json:"hits"`
	Total      int    `json:"total"`
	Generation int64  `json:"generation"`
	Documents  int    `json:"documents"`
	Took       int64  `json:"took_us"`
}

const defaultLimit = 10

// answer is the search handler.
func (ix *index) answer(payload []byte) ([]byte, error) {
	start := time.Now()
	words, limit, err := parse(payload)
	if err != nil {
		return nil, err
	}
	f := ix.search(words)
	hits := make([]hit, min(limit, len(f.matches)))
	for i := range hits {
		hits[i] = ix.show(f.matches[i], words)
	}
	r := reply{
		Hits:       hits,
		Total:      len(f.matches),
		Generation: f.generation,
		Documents:  f.documents,
		Took:       time.Since(start).Microseconds(),
	}
	if !f.complete {
		r.Note = fmt.Sprintf("still indexing, %d files so far", f.documents)
	}
	return json.Marshal(r)
}

// parse decodes a request into the words to search for and the number of hits to show.
func parse(payload []byte) (words []string, limit int, err error) {
	q := request{Limit: defaultLimit}
	if err := json.Unmarshal(payload, &q); err != nil {
		return nil, 0, fmt.Errorf(`the request must be like {"query": "two words", "limit": 10}: %w`, err)
	}
	if words = distinct(q.Query); len(words) == 0 {
		return nil, 0, errors.New("query has no words: it needs letters, digits or underscores")
	}
	if q.Limit < 0 {
		return nil, 0, fmt.Errorf("limit is %d: it cannot be negative", q.Limit)
	}
	return words, q.Limit, nil
}
