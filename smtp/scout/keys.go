package scout

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"net"
	"strings"
)

// RSA keys that signatures count with: a shorter one is broken (RFC 8301 section
// 3.2), and the work of a longer one grows with the cube of its length, for
// whoever publishes it and mails us.
const (
	shortestKey = 1024 // bits
	longestKey  = 4096
)

// keysOf looks DKIM keys up, and finds none of those that nothing is verified with.
func keysOf(lookup func(string) ([]string, error)) func(string) ([]string, error) {
	return func(name string) ([]string, error) {
		records, err := lookup(name)
		for _, r := range records {
			if bits := rsaBits(r); bits != 0 && (bits < shortestKey || bits > longestKey) {
				return nil, &net.DNSError{Err: "its key is too short or too long", Name: name, IsNotFound: true}
			}
		}
		return records, err
	}
}

// rsaBits is the length of the RSA key in a key record (RFC 6376 section 3.6.1);
// 0: there is none that can be read.
func rsaBits(record string) int {
	for tag := range strings.SplitSeq(record, ";") {
		name, value, _ := strings.Cut(tag, "=")
		if strings.TrimSpace(name) != "p" {
			continue
		}
		der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(value), ""))
		if err != nil {
			return 0
		}
		if key, err := x509.ParsePKCS1PublicKey(der); err == nil {
			return key.N.BitLen()
		}
		if key, err := x509.ParsePKIXPublicKey(der); err == nil {
			if key, ok := key.(*rsa.PublicKey); ok {
				return key.N.BitLen()
			}
		}
	}
	return 0
}
