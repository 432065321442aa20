// Httpget fetches URLs concurrently, with an ordinary http.Client.
//
//	gothreads run --allow-net example.com:80 examples/httpget http://example.com/
//
// For https the module needs trusted certificates, such as the machine's:
//
//	--allow-net example.com:443
package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

var timeout = flag.Duration("timeout", 30*time.Second, "for each URL, its whole body included")

// A result describes how fetching one URL went.
type result struct {
	status int
	bytes  int64
	took   time.Duration
	err    error
}

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: httpget [-timeout DURATION] URL…")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	failed := false
	for i, r := range fetchAll(&http.Client{Timeout: *timeout}, flag.Args()) {
		url := flag.Arg(i)
		if r.status != 0 {
			fmt.Printf("%d %d bytes %.1fms %s\n", r.status, r.bytes, float64(r.took.Microseconds())/1e3, url)
		}
		if r.err != nil {
			fmt.Fprintf(os.Stderr, "httpget: %s: %v\n", url, r.err)
		}
		failed = failed || r.err != nil || r.status >= 400
	}
	if failed {
		os.Exit(1)
	}
}

// fetchAll fetches the URLs concurrently, and returns the results in the order of the URLs.
func fetchAll(client *http.Client, urls []string) []result {
	results := make([]result, len(urls))
	var running sync.WaitGroup
	for i, url := range urls {
		running.Go(func() { results[i] = fetch(client, url) })
	}
	running.Wait()
	return results
}

// fetch gets a URL and reads its whole body. A result without err may still have a failure status.
func fetch(client *http.Client, url string) (r result) {
	begin := time.Now()
	defer func() { r.took = time.Since(begin) }()
	response, err := client.Get(url)
	if err != nil {
		return result{err: err}
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	return result{status: response.StatusCode, bytes: n, err: err}
}
