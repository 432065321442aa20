// Command dns is a DNS server over UDP and TCP. It answers all names: with an address, or with many texts.
package main

import (
	"fmt"
	"log"
	"net"
	"os"
	"strings"

	"github.com/miekg/dns"
)

const texts = 30

func main() {
	dns.HandleFunc(".", answer)
	datagrams, err := net.ListenPacket("udp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	// For a *net.UDPConn the library sets options of golang.org/x/net/ipv4, which has none of them on wasip1.
	go func() { ended <- dns.ActivateAndServe(nil, struct{ net.PacketConn }{datagrams}, nil) }()
	go func() { ended <- dns.ListenAndServe(os.Args[1], "tcp", nil) }()
	log.Fatal(<-ended)
}

func answer(w dns.ResponseWriter, question *dns.Msg) {
	reply := new(dns.Msg).SetReply(question)
	asked := question.Question[0]
	header := dns.RR_Header{Name: asked.Name, Rrtype: asked.Qtype, Class: dns.ClassINET, Ttl: 60}
	switch asked.Qtype {
	case dns.TypeA:
		reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: net.IPv4(192, 0, 2, 1)})
	case dns.TypeTXT:
		for i := range texts {
			text := fmt.Sprint(i, strings.Repeat(" text", 20))
			reply.Answer = append(reply.Answer, &dns.TXT{Hdr: header, Txt: []string{text}})
		}
	}
	if w.RemoteAddr().Network() == "udp" {
		reply.Truncate(dns.MinMsgSize)
	}
	if err := w.WriteMsg(reply); err != nil {
		log.Print(err)
	}
}
