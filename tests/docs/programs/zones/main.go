// Command zones loads a time zone from the program itself.
package main

import (
	"time"
	_ "time/tzdata"
)

func main() {
	if _, err := time.LoadLocation("Europe/Berlin"); err != nil {
		panic(err)
	}
}
