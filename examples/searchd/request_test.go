package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestAnswer(t *testing.T) {
	f := newFixture(t, "sort/sort.go", "package sort\n", "b.go", "package b\n")
	answer, err := f.index.answer([]byte(`{"query": "package", "limit": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(answer, &got); err != nil {
		t.Fatal(err)
	}
	hit := got["hits"].([]any)[0].(map[string]any)
	if hit["file"] != "b.go" || hit["line"] != 1.0 || hit["text"] != "package b" || hit["score"].(float64) <= 0 {
		t.Errorf("hit is %v", hit)
	}
	if got["total"] != 2.0 || got["documents"] != 2.0 || got["generation"] != 2.0 || got["took_us"] == nil {
		t.Errorf("answer is %v", got)
	}
}

func TestNoHitsAreAnEmptyList(t *testing.T) {
	answer, err := newFixture(t).index.answer([]byte(`{"query": "apple"}`))
	if err != nil || !strings.HasPrefix(string(answer), `{"hits":[],"total":0,`) {
		t.Errorf("%s, %v", answer, err)
	}
}

func TestUntilAllFilesAreIndexedRepliesSaySo(t *testing.T) {
	f := newFixture(t)
	f.index.complete = false
	for files, want := range []string{"still indexing, 0 files so far", "still indexing, 1 files so far"} {
		if r := f.ask("apple"); r.Note != want || r.Total != files {
			t.Errorf("note is %q with %d hits, want %q", r.Note, r.Total, want)
		}
		f.index.put("a.txt", count("apple"))
	}
	f.walk()
	if r := f.ask("apple"); r.Note != "" {
		t.Errorf("note is %q after the walk", r.Note)
	}
}

func TestLimit(t *testing.T) {
	f := newFixture(t)
	for i := range 30 {
		f.write(fmt.Sprint(i), "apple")
	}
	f.walk()
	for limit, want := range map[string]int{"": 10, `, "limit": 0`: 0, `, "limit": 3`: 3, `, "limit": 99`: 30} {
		var r reply
		answer, err := f.index.answer([]byte(`{"query": "apple"` + limit + `}`))
		if err == nil {
			err = json.Unmarshal(answer, &r)
		}
		if err != nil || len(r.Hits) != want || r.Total != 30 {
			t.Errorf("limit %q: %d hits of %d, %v", limit, len(r.Hits), r.Total, err)
		}
	}
}

func TestBadRequests(t *testing.T) {
	ix := newFixture(t).index
	for payload, want := range map[string]string{
		``:                            "the request must be like",
		`{"query": `:                  "the request must be like",
		`{"query": 7}`:                "the request must be like",
		`{"query": "a", "limit": ""}`: "the request must be like",
		`{}`:                          "query has no words",
		`{"query": " -- "}`:           "query has no words",
		`{"query": "a", "limit": -1}`: "limit is -1",
	} {
		if _, err := ix.answer([]byte(payload)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is answered with %v, want %q", payload, err, want)
		}
	}
}
