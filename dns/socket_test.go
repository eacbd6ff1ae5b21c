package dns_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"mailweir/dns"
)

// askers counts where the questions for names with a prefix came from.
func (l *liar) askers(prefix string) (questions int, of map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of = map[string]int{}
	for key, from := range l.from {
		if strings.HasPrefix(key, prefix) {
			questions++
			of[from]++
		}
	}
	return questions, of
}

// A port is used again, but not so often that it would be worth a search.
func TestPortsChange(t *testing.T) {
	l := newLiar(t)
	r, _ := resolver(t, newClock(), l)
	const questions = 64
	for i := range questions {
		l.expect(t, r, fmt.Sprintf("later%d.example", i), dns.NoName)
	}
	_, of := l.askers("later")
	for port, n := range of {
		if n > 16 {
			t.Errorf("%s asked %d times", port, n)
		}
	}
	if len(of) > questions/2 {
		t.Errorf("%d questions came from %d ports", questions, len(of))
	}
}

// Two questions under way never share a port, or a forger would get two guesses.
func TestQuestionsAtOnceHavePortsOfTheirOwn(t *testing.T) {
	l := newLiar(t)
	r, _ := resolver(t, newClock(), l)
	l.expect(t, r, "first.example", dns.NoName)
	hold := make(chan struct{})
	l.mu.Lock()
	l.hold, l.spare = hold, "canaries"
	l.mu.Unlock()
	const questions = 10
	var all sync.WaitGroup
	for i := range questions {
		all.Go(func() { l.expect(t, r, fmt.Sprintf("once%d.example", i), dns.NoName) })
	}
	var n int
	var of map[string]int
	for end := time.Now().Add(10 * time.Second); n < questions && time.Now().Before(end); time.Sleep(time.Millisecond) {
		n, of = l.askers("once")
	}
	close(hold)
	all.Wait()
	if n != questions || len(of) != questions {
		t.Errorf("%d questions came from %d ports, want %d of each", n, len(of), questions)
	}
}
