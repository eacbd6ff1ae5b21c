package wire

import (
	"bufio"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailweir/smtp/reply"
)

// stalling is a client on a Conn with a real go-smtp server behind it.
func stalling(t *testing.T, f func(c *Conn, say func(string), hear func() string)) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		c := New(server, Config{Hostname: "mx.example.net", TLS: testTLS(t)}, &events{})
		serve(t, c, &backend{})
		in := bufio.NewReader(client)
		hear := func() string {
			for {
				line, err := in.ReadString('\n')
				if err != nil || line[3] == ' ' {
					return line
				}
			}
		}
		say := func(s string) {
			if _, err := client.Write([]byte(s)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		hear()
		f(c, say, hear)
		client.Close()
		synctest.Wait()
	})
}

// Bytes of a command do not renew the patience with it; a command does.
func TestStallsOfCommands(t *testing.T) {
	stalling(t, func(c *Conn, say func(string), hear func() string) {
		for range 3 {
			time.Sleep(4 * time.Second)
			say("N")
		}
		if !c.Stalls(10*time.Second) || c.Stalls(time.Minute) {
			t.Error("twelve seconds for one line: does not stall for ten, or does for sixty")
		}
		say("\r\n")
		hear()
		if c.Stalls(10 * time.Second) {
			t.Error("stalls after a command")
		}
	})
}

// A body stalls by its rate, and Dismiss ends it with the reply.
func TestDismissBreaksOffASlowBody(t *testing.T) {
	stalling(t, func(c *Conn, say func(string), hear func() string) {
		for _, line := range []string{"EHLO x", "MAIL FROM:<a@sender.example>", "RCPT TO:<b@example.com>", "DATA"} {
			say(line + "\r\n")
			hear()
		}
		say(strings.Repeat("x", 300*20))
		time.Sleep(20 * time.Second)
		if c.Stalls(10 * time.Second) {
			t.Error("300 octets a second stall")
		}
		time.Sleep(20 * time.Second)
		if !c.Stalls(10 * time.Second) {
			t.Error("150 octets a second do not stall")
		}
		c.Dismiss(reply.Overload.Reply())
		if said := hear(); !strings.HasPrefix(said, "421 4.7.0 ") {
			t.Errorf("heard %q", said)
		}
	})
}

// A client that is not waited for is answered first.
func TestDismissWaitsForTheAnswer(t *testing.T) {
	stalling(t, func(c *Conn, say func(string), hear func() string) {
		for _, line := range []string{"EHLO x", "MAIL FROM:<a@sender.example>"} {
			say(line + "\r\n")
			hear()
		}
		say("RCPT TO:<slow@example.com>\r\n")
		time.Sleep(30 * time.Second)
		if c.Stalls(10 * time.Second) {
			t.Error("who waits for us is taken for one who keeps us waiting")
		}
		c.Dismiss(reply.Overload.Reply())
		if said := hear(); !strings.HasPrefix(said, "250 2.1.5") {
			t.Errorf("heard %q", said)
		}
		if said := hear(); !strings.HasPrefix(said, "421 4.7.0 ") {
			t.Errorf("heard %q", said)
		}
	})
}

// A handshake that does not go on stalls as a command does, and Dismiss ends it
// without a word in clear.
func TestDismissBreaksOffAHandshake(t *testing.T) {
	stalling(t, func(c *Conn, say func(string), hear func() string) {
		say("EHLO x\r\n")
		hear()
		say("STARTTLS\r\n")
		hear()
		say("\x16\x03\x01\x02") // of a ClientHello
		time.Sleep(12 * time.Second)
		if !c.Stalls(10*time.Second) || c.Stalls(time.Minute) {
			t.Error("twelve seconds in a handshake: does not stall for ten, or does for sixty")
		}
		c.Dismiss(reply.Overload.Reply())
		begun := time.Now()
		if said := hear(); said != "" || time.Since(begun) != 0 {
			t.Errorf("after %v heard %q", time.Since(begun), said)
		}
		if !errors.Is(c.Cause(), net.ErrClosed) {
			t.Errorf("ended by %v", c.Cause())
		}
	})
}
