// Command ssh is an SSH server. A session gets its own input back, in capital letters, and exit status 7.
package main

import (
	"bytes"
	"io"
	"log"
	"os"

	"github.com/gliderlabs/ssh"
)

func main() {
	ssh.Handle(func(session ssh.Session) {
		input, err := io.ReadAll(session)
		if err != nil {
			log.Print(err)
		}
		session.Write(bytes.ToUpper(input))
		session.Exit(7)
	})
	password := ssh.PasswordAuth(func(ctx ssh.Context, password string) bool { return password == "secret" })
	log.Fatal(ssh.ListenAndServe(os.Args[1], nil, password))
}
