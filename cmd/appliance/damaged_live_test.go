package main

import (
	"fmt"
	"path"
	"strings"
	"testing"
	"time"
)

// TestEveryStateFileDamagedLive overwrites every file of the state, one after
// the other between two runs: each time a named alarm says so, what was there is
// set aside, mail arrives and nobody is banned for it.
func TestEveryStateFileDamagedLive(t *testing.T) {
	b := newKeyBench(t)
	b.edit(map[string]string{"greylist.mode": `"all"`})
	b.cmd("reload")
	b.cmd("ban", b.source().String(), "--why", "test")
	b.cmd("allow", b.source().String(), "--why", "test")
	if !b.arrives(b.first) {
		t.Fatal("the message did not arrive")
	}
	b.weir.Stop() // which writes what is kept now and then
	files := strings.Fields(b.shell(b.edge, `cp -a /var/lib/mailweir /var/lib/sound; cd /var/lib/mailweir && find . -type f`))
	if len(files) < 14 {
		t.Errorf("the state is in %d files, which are not all: %q", len(files), files)
	}
	for _, file := range files {
		if path.Base(file) == "lock" { // holds nothing
			continue
		}
		b.shell(b.edge, `rm -rf /var/lib/mailweir; cp -a /var/lib/sound /var/lib/mailweir; cd /var/lib/mailweir && head -c 300 /dev/urandom >`+file)
		b.weir.Start()
		s := b.survivor()
		b.Eventually(30*time.Second, fmt.Sprintf("an alarm names %s", file), func() bool {
			for _, p := range b.status().Problems {
				if strings.Contains(p, path.Base(file)) && strings.Contains(p, ".damaged") {
					return true
				}
			}
			return false
		})
		if !b.arrives(b.first) {
			t.Errorf("%s: mail does not arrive", file)
		}
		if aside := b.shell(b.edge, `cd /var/lib/mailweir && stat -c %s `+file+`.damaged*`); !strings.Contains(aside, "300") {
			t.Errorf("%s was not set aside: %s", file, aside)
		}
		s.unharmed()
		b.weir.Stop()
	}
}
