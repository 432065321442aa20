// Command dns asks for addresses by UDP and TCP, and for texts that are too long for UDP.
package main

import (
	"fmt"
	"time"

	"github.com/miekg/dns"

	"servers/load"
)

const (
	texts    = 30 // as the server has it
	patience = 30 * time.Second
)

func main() {
	load.Main(func(address string, client int) (load.Client, error) {
		udp, tcp, number := &dns.Client{Net: "udp"}, &dns.Client{Net: "tcp"}, 0
		exchange := func() error {
			number++
			name := fmt.Sprintf("%d.%d.example.org.", number, client)
			if err := ask(udp, address, name, dns.TypeA, 1); err != nil {
				return fmt.Errorf("UDP: %w", err)
			}
			if number%8 != 0 {
				return nil
			}
			if err := ask(udp, address, name, dns.TypeTXT, 0); err != nil {
				return fmt.Errorf("a long answer by UDP: %w", err)
			}
			if err := ask(tcp, address, name, dns.TypeTXT, texts); err != nil {
				return fmt.Errorf("TCP: %w", err)
			}
			return nil
		}
		// The first question may be lost: the server listens by TCP, and perhaps not yet by UDP.
		err := ask(udp, address, "example.org.", dns.TypeA, 1)
		for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); {
			err = ask(udp, address, "example.org.", dns.TypeA, 1)
		}
		return load.Client{Exchange: exchange, Close: load.Nothing}, err
	})
}

// ask expects so many records; if none, an answer that says that it was too long.
func ask(by *dns.Client, address, name string, kind uint16, records int) error {
	question := new(dns.Msg).SetQuestion(name, kind)
	answer, _, err := by.Exchange(question, address)
	switch {
	case err != nil:
		return err
	case answer.Id != question.Id || answer.Rcode != dns.RcodeSuccess || answer.Question[0].Name != name:
		return fmt.Errorf("%s: another answer: %v", name, answer)
	case answer.Truncated != (records == 0) || records > 0 && len(answer.Answer) != records:
		return fmt.Errorf("%s: %d records, truncated: %v", name, len(answer.Answer), answer.Truncated)
	}
	return nil
}
