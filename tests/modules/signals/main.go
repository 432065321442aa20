// Command signals tells which signals it gets. It ends at the first SIGTERM, after its requests have been answered, if it
// serves; and at what its arguments say: "ignore" ignores SIGINT and SIGHUP, "default" resets SIGTERM, "self" sends itself
// SIGUSR1.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// nothing is an export, which `gothreads serve` needs.
//
//go:wasmexport nothing
func nothing() {}

func main() {
	got := make(chan os.Signal, 10)
	switch os.Args[1] {
	case "serve":
		serve()
		return
	case "ignore":
		signal.Ignore(syscall.SIGINT, syscall.SIGHUP)
		signal.Notify(got, syscall.SIGUSR2)
	case "default":
		signal.Notify(got, syscall.SIGTERM)
		signal.Stop(got)
	case "self":
		signal.Notify(got, syscall.SIGUSR1)
		p, _ := os.FindProcess(os.Getpid())
		fmt.Println("sent", p.Signal(syscall.SIGUSR1))
		fmt.Println("got", <-got)
		signal.Reset(syscall.SIGUSR1)
		p.Signal(syscall.SIGUSR1)
		time.Sleep(time.Minute)
	}
	if os.Args[1] == "notify" {
		signal.Notify(got, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT)
	}
	fmt.Println("ready")
	for s := range got {
		fmt.Println("got", s)
		if s == syscall.SIGTERM {
			return
		}
	}
}

func serve() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush() // the client knows that its request has come
		<-ctx.Done()
		time.Sleep(300 * time.Millisecond)
		fmt.Fprintln(w, "done")
	})}
	l, err := net.Listen("tcp", os.Args[2])
	if err != nil {
		panic(err)
	}
	ended := make(chan error)
	go func() { ended <- server.Serve(l) }()
	fmt.Println("ready")
	<-ctx.Done()
	fmt.Println("shutdown", server.Shutdown(context.Background()), <-ended)
}
