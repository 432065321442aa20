// Https is a server and a client in one program: two goroutines that speak TLS and HTTP/2 over a real socket of the host's.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"time"

	"gothreads/guest"
)

func init() {
	guest.Handle("once", func(payload []byte) ([]byte, error) {
		said, err := exchange(string(payload))
		return []byte(said), err
	})
	guest.Handle("certificate", func([]byte) ([]byte, error) {
		certificate, _, err := selfSigned()
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}), err
	})
	guest.Handle("authorities", func([]byte) ([]byte, error) {
		pool, err := x509.SystemCertPool()
		return fmt.Append(nil, len(pool.Subjects())), err
	})
}

func main() { select {} }

// exchange sends a text there and back, and says over which protocols.
func exchange(text string) (string, error) {
	certificate, pool, err := selfSigned()
	if err != nil {
		return "", err
	}
	listener, err := guest.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %x", strings.ToUpper(string(body)), r.Proto, r.TLS.Version)
		}),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
	}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext:       guest.DialContext,
		TLSClientConfig:   &tls.Config{RootCAs: pool, ServerName: "localhost"},
		ForceAttemptHTTP2: true,
	}}
	answer, err := client.Post("https://"+listener.Addr().String(), "text/plain", strings.NewReader(text))
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	client.CloseIdleConnections()
	if err := server.Close(); err != nil {
		return "", err
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return "", err
	}
	return fmt.Sprintf("%s, client %s", body, answer.Proto), err
}

// selfSigned is a certificate for localhost, and the pool that trusts it.
func selfSigned() (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool, nil
}
