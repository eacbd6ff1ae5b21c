// Demo shows what Mailweir does, in a small internet of network namespaces: a
// good sender, an attacker, a name server, a real Postfix, and the appliance
// between them.
//
//	make demo
//
// Every line it prints was said on the wire, or read from the kernel's
// counters, the appliance's own commands, or the files of the server behind. A
// scene that does not come true ends it with exit code 1: it cannot show what
// did not happen.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	weir := flag.String("weir", "", "play with this binary instead of one built from this tree")
	engine := flag.String("engine", "auto", "firewall.engine: auto, xdp or nft")
	svg := flag.String("svg", "", "also draw the scenes from the second on into this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var printed bytes.Buffer
	out := newStage(os.Stdout)
	if *svg != "" {
		out = newStage(io.MultiWriter(os.Stdout, &printed))
	}
	code := play(ctx, out, *weir, *engine)
	stop()
	if code == 0 && *svg != "" {
		if err := picture(*svg, "make demo", printed.Bytes(), 2); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// play plays all scenes and takes the stage down, and returns the exit code.
func play(ctx context.Context, s *stage, weir, engine string) (code int) {
	began := time.Now()
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(curtain); !ok {
				panic(r)
			}
			code = 1
		}
		s.clear()
		if code == 0 {
			fmt.Fprintf(s.out, "\nAll of it came true, in %.0f s. Nothing is left on this machine.\n", time.Since(began).Seconds())
		}
	}()
	p := rehearse(s, weir, engine)
	// From here on: the first time, packages are downloaded and weir is built.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	p.ctx = ctx
	for _, scene := range []struct {
		title string
		play  func()
	}{
		{"A good mail goes through to the server behind", p.goodMail},
		{"An attacker guesses addresses", p.attack},
		{"The kernel drops him, and nobody else", p.dropped},
		{"Why?", p.why},
		{"The ban is lifted", p.lifted},
	} {
		s.scene(scene.title)
		scene.play()
	}
	return 0
}
