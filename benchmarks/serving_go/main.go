// Command serving_go answers with a line of JSON: as a handler, or, with an address, over net/http.
package main

import (
	"io"
	"log"
	"net/http"
	"os"

	"gothreads/guest"
)

var answer = []byte(`{"hello":"world"}`)

func init() {
	guest.Handle("hello", func([]byte) ([]byte, error) { return answer, nil })
}

func main() {
	if len(os.Args) == 1 {
		select {}
	}
	http.HandleFunc("POST /api/request/hello", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer)
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
