// Command grpc calls SayHello of grpc's example, each client on a connection of its own.
package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/examples/helloworld/helloworld"

	"servers/load"
)

func main() {
	load.Main(func(address string, client int) (load.Client, error) {
		connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return load.Client{}, err
		}
		greeter, name := pb.NewGreeterClient(connection), fmt.Sprint("client ", client)
		exchange := func() error {
			reply, err := greeter.SayHello(context.Background(), &pb.HelloRequest{Name: name})
			if err == nil && reply.GetMessage() != "Hello "+name {
				err = fmt.Errorf("said %q to %s", reply.GetMessage(), name)
			}
			return err
		}
		return load.Client{Exchange: exchange, Close: connection.Close}, exchange()
	})
}
