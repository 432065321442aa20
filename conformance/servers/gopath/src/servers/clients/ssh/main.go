// Command ssh runs sessions on an SSH server: many on each connection, and a new connection now and then.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/crypto/ssh"

	"servers/load"
)

const sessions = 16 // of a connection

func main() {
	load.Main(func(address string, client int) (load.Client, error) {
		var connection *ssh.Client
		number := 0
		exchange := func() (err error) {
			if number%sessions == 0 {
				if connection != nil {
					connection.Close()
				}
				connection, err = ssh.Dial("tcp", address, &ssh.ClientConfig{User: fmt.Sprint("client", client),
					Auth: []ssh.AuthMethod{ssh.Password("secret")}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
				if err != nil {
					return err
				}
			}
			number++
			return session(connection)
		}
		return load.Client{Exchange: exchange, Close: func() error { return connection.Close() }}, nil
	})
}

func session(connection *ssh.Client) error {
	session, err := connection.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	input := bytes.Repeat([]byte("text "), rand.IntN(1<<rand.IntN(15)))
	session.Stdin = bytes.NewReader(input)
	output, err := session.Output("upper")
	if exit := new(ssh.ExitError); !errors.As(err, &exit) || exit.ExitStatus() != 7 {
		return fmt.Errorf("a session ended with %v", err)
	}
	if !bytes.Equal(output, bytes.ToUpper(input)) {
		return fmt.Errorf("another output of %d bytes, for %d", len(output), len(input))
	}
	return nil
}
