package xdp

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"mailweir/firewall"
	"mailweir/firewall/enginetest"
	"mailweir/geo"
)

// victimEnv tells TestVictim what to play, and where to stop.
const victimEnv = "MAILWEIR_XDP_VICTIM"

// part is what a victim plays: a swap or an upgrade, over what is in force in Dir.
// At the step Stop, when it comes for the Nth time, it stops for ever; with no
// such step it tells all that it came to.
type part struct {
	Play string
	Dir  string
	Stop step
	Nth  int
}

// What a victim says, a line each.
const (
	saysStopped = "stopped"
	saysDone    = "done"
	saysBanned  = "banned" // and how many of strangers are
	saysStep    = "step"   // and which
)

// The bans of every play, one in each kind of table, and what their sources have
// in common with nobody else.
func standing() (list []firewall.Ban) {
	for _, p := range []string{"192.0.2.7/32", "203.0.113.0/25", "2001:db8::/64", "2001:db8:5::/40"} {
		list = append(list, firewall.Ban{Prefix: netip.MustParsePrefix(p), Until: time.Now().Add(time.Hour)})
	}
	return list
}

// strangers are n sources that are banned besides.
func strangers(n int) (list []firewall.Ban) {
	until := time.Now().Add(time.Hour)
	for i := range n {
		a := netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
		list = append(list, firewall.Ban{Prefix: netip.PrefixFrom(a, 32), Until: until})
	}
	return list
}

func edgeRules() firewall.Rules {
	return firewall.Rules{Interfaces: []string{enginetest.Interface}, Ports: []uint16{enginetest.Mail}, Allow: []netip.Prefix{netip.MustParsePrefix("198.18.7.0/24")}}
}

// plays are what victims do. Between before and now steps count.
var plays = map[string]struct {
	before func(*victim)
	now    func(*victim)
}{
	// A new program with the same pins.
	"upgrade": {nil, func(v *victim) {
		v.open()
		v.configure(edgeRules())
	}},
	// A program with pins of another layout; also the first of all.
	"layout": {nil, func(v *victim) {
		v.open()
		v.configure(edgeRules())
		v.replace(standing())
	}},
	// Another truth.
	"replace": {(*victim).open, func(v *victim) { v.replace(append(standing(), strangers(2000)...)) }},
	// A table that grows beside what goes on, and one that has no room for that.
	"grow": {(*victim).small, func(v *victim) {
		v.apply(strangers(33_000))
		v.table.growth.Wait()
		v.apply(strangers(33_100))
	}},
	"grow at once": {(*victim).small, func(v *victim) { v.apply(strangers(70_000)) }},
	// Another world of countries.
	"world": {
		func(v *victim) {
			v.worlds = enginetest.Worlds(v.t)
			v.open()
			v.configure(v.places(0, "DE"))
		},
		func(v *victim) { v.configure(v.places(1, "DE", "US")) },
	},
	// Everything out, which opens the gate.
	"remove": {(*victim).open, func(v *victim) { v.must(v.table.Remove(context.Background())) }},
}

type victim struct {
	t      *testing.T
	part   part
	out    io.Writer
	table  *Table
	worlds [2]*geo.Tables
}

// TestVictim is the process that TestKilledAtEachStep kills; by itself it is
// nothing.
func TestVictim(t *testing.T) {
	text, asked := os.LookupEnv(victimEnv)
	if !asked {
		return
	}
	v := &victim{t: t, out: os.NewFile(4, "words")}
	v.must(json.Unmarshal([]byte(text), &v.part))
	runtime.LockOSThread() // never unlocked
	v.must(netns.Set(netns.NsHandle(3)))
	play := plays[v.part.Play]
	if play.before != nil {
		play.before(v)
	}
	count := make(map[step]int)
	reached = func(s step) {
		count[s]++
		if v.part.Stop == "" {
			fmt.Fprintln(v.out, saysStep, s)
		} else if s == v.part.Stop && count[s] == v.part.Nth {
			fmt.Fprintln(v.out, saysStopped)
			select {}
		}
	}
	play.now(v)
	reached = nil
	fmt.Fprintln(v.out, saysDone)
}

func (v *victim) must(err error) {
	if err != nil {
		fmt.Fprintln(v.out, err)
		v.t.Fatal(err)
	}
}

// open is not told of the steps before the program is tested: those are in small
// maps of its own.
func (v *victim) open() {
	told := reached
	testing := told != nil
	if testing {
		reached = func(s step) {
			if testing = testing && s != stepTested; !testing {
				told(s)
			}
		}
	}
	var err error
	v.table, err = Open(Options{PinDir: v.part.Dir})
	v.must(err)
	reached = told
	if v.part.Play != "upgrade" && v.part.Play != "layout" {
		v.configure(edgeRules())
	}
}

func (v *victim) configure(r firewall.Rules) { v.must(v.table.Configure(context.Background(), r)) }

func (v *victim) replace(list []firewall.Ban) {
	v.must(v.table.Replace(context.Background(), slices.Values(list)))
}

// small opens tables, and makes them small again where another victim has grown
// them.
func (v *victim) small() {
	v.open()
	for range 2 { // the first is as large as what it takes the place of
		v.replace(standing())
	}
	v.apply(strangers(30_000))
}

// apply says how many are banned; in as many goes as a guard would need.
func (v *victim) apply(list []firewall.Ban) {
	if len(list) > 50_000 {
		v.must(v.table.Apply(context.Background(), list, nil))
		fmt.Fprintln(v.out, saysBanned, len(list))
		return
	}
	for at := 0; at < len(list); at += 1000 {
		end := min(at+1000, len(list))
		v.must(v.table.Apply(context.Background(), list[at:end], nil))
		fmt.Fprintln(v.out, saysBanned, end)
	}
}

func (v *victim) places(n int, deny ...string) firewall.Rules {
	r := edgeRules()
	r.World = v.worlds[n]
	for _, s := range deny {
		rule, err := geo.ParseRule(s)
		v.must(err)
		r.Deny = append(r.Deny, rule)
	}
	return r
}
