package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRoutes(t *testing.T) {
	for _, test := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/", "", 200, "Hello from Go.\n"},
		{"GET", "/json?name=%C3%89va", "", 200, `{"name":"Éva","greeting":"Hello, Éva.","letters":3}` + "\n"},
		{"POST", "/echo", "\x00 any bytes \xff", 200, "\x00 any bytes \xff"},
		{"POST", "/echo", strings.Repeat("x", maxBody+1), 413, "http: request body too large\n"},
		{"GET", "/stream?chunks=2&ms=0", "", 200, "chunk 1 of 2\nchunk 2 of 2\n"},
		{"GET", "/stream?chunks=-1", "", 400, "chunks must be a number from 0 to 1000000, not \"-1\"\n"},
		{"GET", "/sleep?ms=1", "", 200, "slept for 1 ms\n"},
		{"GET", "/sleep?ms=x", "", 400, "ms must be a number from 0 to 3600000, not \"x\"\n"},
		{"GET", "/nowhere", "", 404, "404 page not found\n"},
		{"GET", "/echo", "", 405, "Method Not Allowed\n"},
	} {
		answer := httptest.NewRecorder()
		newSite().ServeHTTP(answer, httptest.NewRequest(test.method, test.path, strings.NewReader(test.body)))
		if answer.Code != test.status || answer.Body.String() != test.want {
			t.Errorf("%s %s: %d %q, want %d %q", test.method, test.path, answer.Code, answer.Body, test.status, test.want)
		}
	}
}

func TestQuitEndsServe(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- serve(t.Context(), func() {}, listener) }()
	answer, err := http.Post("http://"+listener.Addr().String()+"/quit", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(answer.Body); string(body) != "quitting\n" {
		t.Errorf("%q", body)
	}
	answer.Body.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestServeFinishesRequestsWhenItsContextEnds(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- serve(ctx, cancel, listener) }()
	answer, err := http.Get("http://" + listener.Addr().String() + "/stream?chunks=20&ms=10")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	cancel()
	if body, err := io.ReadAll(answer.Body); err != nil || !strings.HasSuffix(string(body), "chunk 20 of 20\n") {
		t.Errorf("%q, %v", body, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
