// Command proxy is both sides of a reverse proxy: a server that sends bodies back, and clients that send them.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"

	"servers/load"
)

func main() {
	backend := flag.String("backend", "", "where the proxy's server listens")
	served := make(chan struct{})
	load.Main(func(address string, client int) (load.Client, error) {
		if client == 0 {
			go func() { log.Fatal(http.ListenAndServe(*backend, http.HandlerFunc(echo))) }()
			close(served)
		}
		<-served
		transport := &http.Transport{MaxConnsPerHost: 1}
		web, random := http.Client{Transport: transport}, rand.NewChaCha8([32]byte{byte(client)})
		exchange := func() error {
			sent := make([]byte, rand.IntN(1<<rand.IntN(20)))
			random.Read(sent)
			body := io.Reader(bytes.NewReader(sent))
			if len(sent)%2 == 1 {
				body = io.MultiReader(body) // of unknown length, so in chunks
			}
			response, err := web.Post("http://"+address+"/echo", "application/octet-stream", body)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			got, err := io.ReadAll(response.Body)
			if err == nil && (response.StatusCode != 200 || !bytes.Equal(got, sent)) {
				err = fmt.Errorf("%s, and %d bytes for %d", response.Status, len(got), len(sent))
			}
			return err
		}
		return load.Client{Exchange: exchange, Close: func() error {
			transport.CloseIdleConnections()
			return nil
		}}, nil
	})
}

func echo(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Forwarded-For") == "" {
		http.Error(w, "not from the proxy", http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Write(body)
}
