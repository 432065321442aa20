// Command proxy passes requests on to another server.
package main

import (
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
)

func main() {
	backend, err := url.Parse(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(backend)
			r.SetXForwarded()
		},
		// As many connections are kept as there are clients.
		Transport: &http.Transport{MaxIdleConnsPerHost: 1000},
	}
	log.Fatal(http.ListenAndServe(os.Args[1], proxy))
}
