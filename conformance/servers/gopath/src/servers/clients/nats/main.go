// Command nats makes requests to a queue of workers, and publishes to itself, through a NATS server.
package main

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"servers/load"
)

const (
	patience  = 30 * time.Second
	published = 20
)

func main() {
	load.Main(func(address string, client int) (load.Client, error) {
		connection, err := nats.Connect("nats://"+address, nats.Timeout(patience))
		if err != nil {
			return load.Client{}, err
		}
		// Every client is a worker, too.
		_, err = connection.QueueSubscribe("work", "workers", func(message *nats.Msg) {
			message.Respond(append([]byte("done: "), message.Data...))
		})
		if err != nil {
			return load.Client{}, err
		}
		own := fmt.Sprint("own.", client)
		subscription, err := connection.SubscribeSync(own)
		if err != nil {
			return load.Client{}, err
		}
		number := 0
		exchange := func() error {
			number++
			text := fmt.Sprint(client, " ", number)
			reply, err := connection.Request("work", []byte(text), patience)
			if err != nil {
				return err
			}
			if string(reply.Data) != "done: "+text {
				return fmt.Errorf("%q for %q", reply.Data, text)
			}
			for i := range published {
				if err := connection.Publish(own, []byte(fmt.Sprint(text, " ", i))); err != nil {
					return err
				}
			}
			for i := range published {
				message, err := subscription.NextMsg(patience)
				if err != nil {
					return err
				}
				if string(message.Data) != fmt.Sprint(text, " ", i) {
					return fmt.Errorf("%q in place of message %d", message.Data, i)
				}
			}
			return nil
		}
		return load.Client{Exchange: exchange, Close: connection.Drain}, connection.Flush()
	})
}
