package main

import (
	"fmt"
	"slices"
	"testing"
)

func TestTokens(t *testing.T) {
	for text, want := range map[string][]string{
		"":                      nil,
		" \n\t":                 nil,
		"one":                   {"1 one"},
		"One, TWO\nthree":       {"1 one", "1 two", "2 three"},
		"a\r\nb\n\nc\n":         {"1 a", "2 b", "4 c"},
		"snake_case x86-64 _":   {"1 snake_case", "1 x86", "1 64", "1 _"},
		"Ärger ÉTÉ 東京 ٣":        {"1 ärger", "1 été", "1 東京", "1 ٣"},
		"not\xffutf8 \xc3":      {"1 not", "1 utf8"},
		"context.Context(ctx);": {"1 context", "1 context", "1 ctx"},
	} {
		var got []string
		for word, line := range tokens(text) {
			got = append(got, fmt.Sprint(line, " ", word))
		}
		if !slices.Equal(got, want) {
			t.Errorf("tokens(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestTokensStopsWhenAsked(t *testing.T) {
	for range tokens("one two") {
		break
	}
}

func TestCount(t *testing.T) {
	got := count("b a\nB c\nA b")
	want := []tally{{"b", 3, 1}, {"a", 2, 1}, {"c", 1, 2}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
