package wire

import "context"

// Import returns the Python function that implements a func of this name, or a method: "prices.price".
func Import(name string) Object {
	return Object{ctx: context.Background(), name: name, handler: "gothreads:import " + name}
}
