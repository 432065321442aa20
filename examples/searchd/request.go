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
	q := request{Limit: defaultLimit}
	if err := json.Unmarshal(payload, &q); err != nil {
		return nil, fmt.Errorf(`the request must be like {"query": "two words", "limit": 10}: %w`, err)
	}
	r, err := ix.reply(q)
	if err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// reply searches, and shows the best hits.
func (ix *index) reply(q request) (reply, error) {
	start := time.Now()
	words := distinct(q.Query)
	if len(words) == 0 {
		return reply{}, errors.New("query has no words: it needs letters, digits or underscores")
	}
	if q.Limit < 0 {
		return reply{}, fmt.Errorf("limit is %d: it cannot be negative", q.Limit)
	}
	f := ix.search(words)
	hits := make([]hit, min(q.Limit, len(f.matches)))
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
	return r, nil
}
