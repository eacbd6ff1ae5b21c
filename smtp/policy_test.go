package smtp_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/access"
	"mailweir/smtp/check"
	"mailweir/smtp/greylist"
	"mailweir/smtp/reply"
)

// known is a scout that was told what the network says.
type known struct {
	rdns   *smtp.RDNS
	lists  []smtp.Listing
	helo   smtp.HELOName
	sender smtp.SenderDomain
	spf    smtp.SPF
	slow   time.Duration // a look-up takes
	said   smtp.Authentication
}

func (k *known) Peer(context.Context, netip.Addr) (*smtp.RDNS, []smtp.Listing) {
	time.Sleep(k.slow)
	return k.rdns, k.lists
}

func (k *known) HELO(context.Context, netip.Addr, string) (smtp.HELOName, []smtp.Listing) {
	return k.helo, nil
}

func (k *known) Sender(context.Context, netip.Addr, string, string) (smtp.SenderDomain, smtp.SPF, []smtp.Listing) {
	return k.sender, k.spf, nil
}

func (k *known) Content(context.Context, smtp.Content) smtp.Authentication { return k.said }

// policy sets one thing that the checks look at: profile, reject_score, set
// (check:what), or a fact.
func (w *world) policy(key, value string) {
	if w.opts.Policy.Scout == nil {
		w.opts.Policy.Scout = &known{rdns: &smtp.RDNS{Name: "mail.client.example", State: smtp.Confirmed, Class: "custom"}}
		w.checks = check.Policy{
			MaxRecipients: 3, Hostname: "mx.example.net", Set: map[string]reply.Setting{},
			Served: func(d string) bool { return d == "office.example" },
			Lists:  []check.List{{Name: "zen", Scores: []check.Range{{Low: [4]byte{127, 0, 0, 2}, High: [4]byte{127, 0, 0, 9}, Score: 8}}, Lookup: "https://look.example/%{addr}"}},
		}
	}
	k := w.opts.Policy.Scout.(*known)
	switch key {
	case "profile":
		w.checks.Strict = value == "strict"
	case "set":
		name, what, _ := strings.Cut(value, ":")
		w.checks.Set[name], _ = reply.ParseSetting(what)
	case "rdns":
		k.rdns.State = smtp.RDNSState(value)
	case "class":
		k.rdns.Class = value
	case "helo_name":
		k.helo = smtp.HELOName(value)
	case "sender":
		k.sender = smtp.SenderDomain(value)
	case "spf":
		k.spf.Result, k.spf.Wide = strings.CutSuffix(value, ":wide")
	case "dkim":
		k.said.DKIM = []smtp.Signature{{Domain: "client.example", Result: value}}
	case "dmarc":
		k.said.DMARC, k.said.DMARCPolicy, _ = strings.Cut(value, ":")
		k.said.Author = "client.example"
	case "author": // the From field has none
		k.said.DMARC, k.said.Author = "permerror", ""
	case "greylist":
		w.checks.Greylist = check.Greylist{Mode: check.GreylistMode(value), Terms: greylist.Default}
		w.opts.Greylist = greylist.New(greylist.NewLocal(0), [16]byte{1})
		w.opts.Clock = func() time.Time { return time.Unix(1_800_000_000, w.later.Load()) }
	case "geo_reject":
		w.opts.Origins = from{}
		w.checks.GeoReject = []string{value}
	case "rdns_name":
		k.rdns.Name = value
	case "rhsbl":
		w.checks.Lists = append(w.checks.Lists, check.List{Name: "dbl", Domain: true, Scores: []check.Range{{Low: [4]byte{127, 0, 1, 2}, High: [4]byte{127, 0, 1, 9}, Score: 8}}, Lookup: "https://look.example/%{domain}"})
		k.lists = []smtp.Listing{{Name: "dbl", About: "client.example", Answer: value, Text: "spam domain"}}
	case "entry": // of the operator's lists, with _ for blanks
		if w.opts.Access == nil {
			w.opts.Access, _ = access.Open(filepath.Join(w.t.TempDir(), "lists.json"), time.Now)
		}
		entries, errs := access.Import{}.Read(strings.NewReader(strings.ReplaceAll(value, "_", " ")))
		if err := errors.Join(append(errs, w.opts.Access.(*access.List).Add(entries...))...); err != nil {
			w.t.Fatal(err)
		}
	case "list":
		k.lists = []smtp.Listing{{Name: "zen", Answer: value, Text: "spam source"}}
	}
	w.opts.Policy.Chain = w.checks.Chain()
	w.opts.Policy.Teaser = true
}
