// Command mqtt publishes with QoS 1 to a topic of each client, which it subscribes to itself.
package main

import (
	"fmt"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"servers/load"
)

const patience = 30 * time.Second

func main() {
	load.Main(func(address string, client int) (load.Client, error) {
		options := mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID(fmt.Sprint("client", client)).
			SetConnectTimeout(patience).SetAutoReconnect(false)
		broker := mqtt.NewClient(options)
		if err := wait(broker.Connect()); err != nil {
			return load.Client{}, fmt.Errorf("connect: %w", err)
		}
		topic, number, got := fmt.Sprint("topic/", client), 0, make(chan string, 16)
		receive := func(_ mqtt.Client, message mqtt.Message) { got <- string(message.Payload()) }
		if err := wait(broker.Subscribe(topic, 1, receive)); err != nil {
			return load.Client{}, fmt.Errorf("subscribe: %w", err)
		}
		exchange := func() error {
			number++
			text := fmt.Sprint("message ", number)
			if err := wait(broker.Publish(topic, 1, false, text)); err != nil {
				return fmt.Errorf("publish: %w", err)
			}
			select {
			case message := <-got:
				if message != text {
					return fmt.Errorf("%q in place of %q", message, text)
				}
				return nil
			case <-time.After(patience):
				return fmt.Errorf("%q has not come", text)
			}
		}
		return load.Client{Exchange: exchange, Close: func() error {
			broker.Disconnect(0)
			return nil
		}}, nil
	})
}

func wait(token mqtt.Token) error {
	if !token.WaitTimeout(patience) {
		return fmt.Errorf("no answer within %v", patience)
	}
	return token.Error()
}
