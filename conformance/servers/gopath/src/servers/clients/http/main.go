// Command http asks for "/" again and again, each client on a connection of its own.
package main

import (
	"fmt"
	"io"
	"net/http"

	"servers/load"
)

func main() {
	load.Main(func(address string, client int) (load.Client, error) {
		transport := &http.Transport{MaxConnsPerHost: 1}
		web := http.Client{Transport: transport}
		exchange := func() error {
			response, err := web.Get("http://" + address + "/")
			if err != nil {
				return err
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err == nil && (response.StatusCode != 200 || string(body) != "sup") {
				err = fmt.Errorf("%s: %q", response.Status, body)
			}
			return err
		}
		return load.Client{Exchange: exchange, Close: func() error {
			transport.CloseIdleConnections()
			return nil
		}}, exchange()
	})
}
