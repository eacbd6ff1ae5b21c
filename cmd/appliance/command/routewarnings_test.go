package command

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// nameServer answers for one name, knows no other, and is silent of silent ones.
func nameServer(t *testing.T) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg).SetReply(q)
		switch name := q.Question[0].Name; {
		case strings.HasPrefix(name, "silent."):
			return
		case name != "mail.example.com.":
			r.Rcode = dns.RcodeNameError
		case q.Question[0].Qtype == dns.TypeA:
			a, _ := dns.NewRR(name + " A 192.0.2.10")
			r.Answer = append(r.Answer, a)
		}
		w.WriteMsg(r)
	})}
	go s.ActivateAndServe()
	t.Cleanup(func() { s.Shutdown() })
	return pc.LocalAddr().String()
}

// weir check warns of a backend that nobody will find. Where the DNS says
// nothing, it says nothing either, and soon.
func TestRouteWarnings(t *testing.T) {
	text := fmt.Sprintf("hostname = \"mx1.example.com\"\n[dns]\nservers = [%q]\ntimeout = \"100ms\"\n", nameServer(t))
	for name, url := range map[string]string{
		"good": "smtp://mail.example.com", "lost": "smtp://mial.example.com:26", "silent": "smtp://silent.example.com",
		"number": "smtp://192.0.2.10", "socket": "lmtp+unix:///run/lmtp",
	} {
		text += fmt.Sprintf("[backend.%s]\nurl = %q\n", name, url)
	}
	path := filepath.Join(t.TempDir(), "weir.toml")
	if err := os.WriteFile(path, []byte(text+"[domain.\"example.com\"]\nbackends = [\"good\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	list := (&cli{}).routeWarnings(t.Context(), path)
	if len(list) != 1 || list.Bad() || !strings.Contains(list[0].String(), "the DNS knows no address of mial.example.com") || list[0].Line == 0 {
		t.Errorf("said %v", list)
	}
	if took := time.Since(began); took > 2*hitsWithin {
		t.Errorf("it took %v", took)
	}
}
