package lab_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"mailweir/lab"
)

// attach runs a program that answers every frame with verdict, natively on the
// host's card, and leaves it there by a pin alone.
func attach(t *testing.T, h *lab.Host, verdict int32) {
	t.Helper()
	err := h.Do(func() error {
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type: ebpf.XDP, License: "MIT",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
		})
		if err != nil {
			return err
		}
		defer prog.Close()
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: eth0.Index, Flags: link.XDPDriverMode})
		if err != nil {
			return err
		}
		if err := l.Pin("/sys/fs/bpf/link"); err != nil {
			return errors.Join(err, l.Close())
		}
		return l.Close()
	})
	if err != nil {
		t.Fatalf("attach natively on %s: %v", h.Name, err)
	}
}

const (
	xdpDrop = 1
	xdpPass = 2
)

// TestNativeXDP: a program runs natively on a host's card, sees real TCP with
// large segments whole, and outlives everything but its host.
func TestNativeXDP(t *testing.T) {
	l := lab.New(t)
	client := l.Host("client", "198.51.100.7", "2001:db8:7::7")
	passing := l.Host("passing", "192.0.2.25", "2001:db8:25::25")
	dropping := l.Host("dropping", "192.0.2.26")
	attach(t, passing, xdpPass)
	attach(t, dropping, xdpDrop)

	const size = 4 << 20
	for _, to := range []string{"192.0.2.25:25", "[2001:db8:25::25]:25"} {
		addr := netip.MustParseAddrPort(to)
		ln, err := passing.Listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		got := make(chan int64, 1)
		go func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			n, _ := io.Copy(io.Discard, c)
			got <- n
		}()
		c, err := client.Dial(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		c.Close()
		select {
		case n := <-got:
			if n != size {
				t.Errorf("%d bytes came through to %s, want %d", n, to, size)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("the bytes to %s did not come through", to)
		}
	}

	greet(t, dropping, netip.MustParseAddrPort("192.0.2.26:25"))
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var late net.Error
	if _, err := client.Dial(ctx, netip.MustParseAddrPort("192.0.2.26:25")); !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("connect through a program that drops: %v, want a time-out", err)
	}
}
