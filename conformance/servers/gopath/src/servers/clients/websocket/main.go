// Command websocket sends messages of many lengths, which the server must send back.
package main

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/gorilla/websocket"

	"servers/load"
)

func main() {
	load.Main(func(address string, client int) (load.Client, error) {
		socket, _, err := websocket.DefaultDialer.Dial("ws://"+address+"/echo", nil)
		if err != nil {
			return load.Client{}, err
		}
		exchange := func() error {
			sent := strings.Repeat("é", rand.IntN(1<<rand.IntN(15)))
			if err := socket.WriteMessage(websocket.TextMessage, []byte(sent)); err != nil {
				return err
			}
			kind, got, err := socket.ReadMessage()
			if err == nil && (kind != websocket.TextMessage || string(got) != sent) {
				err = fmt.Errorf("another message of %d bytes, of kind %d, for %d bytes", len(got), kind, len(sent))
			}
			return err
		}
		return load.Client{Exchange: exchange, Close: func() error {
			defer socket.Close()
			return socket.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
		}}, nil
	})
}
