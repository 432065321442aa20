// Command smtp sends mails, each on a connection of its own.
package main

import (
	"fmt"
	"net/smtp"
	"strings"

	"servers/load"
)

func main() {
	text := strings.Repeat("A line of text.\r\n", 500)
	load.Main(func(address string, client int) (load.Client, error) {
		from, to := fmt.Sprintf("client%d@example.org", client), []string{"a@example.org", "b@example.org"}
		exchange := func() error {
			return smtp.SendMail(address, nil, from, to, []byte("Subject: mail\r\n\r\n"+text))
		}
		return load.Client{Exchange: exchange, Close: load.Nothing}, nil
	})
}
