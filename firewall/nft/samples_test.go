package nft_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"mailweir/firewall"
	"mailweir/firewall/enginetest"
	"mailweir/firewall/nft"
)

// Samples of drops name the source, the port and the reason, and are no more than
// so many a second, however many are dropped.
func TestSamplesOfDrops(t *testing.T) {
	w := enginetest.NewWorld(t)
	table := open(t, w, nft.Options{})
	do(t, w, "ban", func() error {
		return table.Apply(ctx, enginetest.Bans(time.Hour, "192.0.2.7/32", "2001:db8::/64"), nil)
	})
	read := func() (list []firewall.Sample) {
		do(t, w, "samples", func() (err error) { list, err = table.Samples(ctx); return err })
		return list
	}
	read() // as guard does, before anything came
	former := map[firewall.Sample]bool{}
	for _, src := range []string{"192.0.2.7", "2001:db8::7"} {
		began := time.Now()
		s := w.Send(src, enginetest.Mail, enginetest.Shape{})
		want := firewall.Sample{Source: netip.MustParseAddr(src), Port: enginetest.Mail, Reason: "banned"}
		seen := 0
		for end := began.Add(20 * time.Second); seen == 0 || time.Since(began) < 2*time.Second; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no sample of %s", src)
			}
			list := slices.DeleteFunc(read(), func(s firewall.Sample) bool { return former[s] }) // the kernel keeps some for a second
			if i := slices.IndexFunc(list, func(s firewall.Sample) bool { return s != want }); i >= 0 {
				t.Fatalf("sample %v, want %v", list[i], want)
			}
			seen += len(list)
		}
		s.Stop(w)
		if most := 5 + int(250*time.Since(began).Seconds()); seen > most {
			t.Errorf("%d samples of %d packets, want at most %d", seen, s.Sent.Load(), most)
		}
		t.Logf("%s: %d samples of %d packets", src, seen, s.Sent.Load())
		former[want] = true
	}
	do(t, w, "another reader", func() error {
		other, err := nft.Open(nft.Options{})
		if err != nil {
			return err
		}
		defer other.Close()
		if err := other.Configure(ctx, rules); err != nil {
			return err
		}
		if _, err := other.Samples(ctx); err == nil {
			t.Error("two processes read samples, and neither is told")
		}
		return nil
	})
}
