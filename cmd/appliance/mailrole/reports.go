package mailrole

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/config"
	"mailweir/record"
	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/complaint"
	"mailweir/smtp/harvest"
)

// reports counts the complaints that come in by mail. Anybody can send one, so
// that each has to prove itself: by the seal of a message that was accepted, by
// that message's record, and by who got it.
type reports struct {
	key   complaint.Key
	store *record.Store
	watch *harvest.Watch
	tier  func(netip.Addr) smtp.Tier // as the file has it
	now   func() time.Time
	log   *slog.Logger
}

// reportable is how old a message may be that is complained about: as long as
// complaints count.
const reportable = 7 * 24 * time.Hour

// before puts the mailbox that complaints come to before the routes.
func (c *reports) before(router smtp.Router, h config.Harvest) (smtp.Router, error) {
	if h.ComplaintMailbox == "" {
		return router, nil
	}
	at, err := address.ParseMailbox(h.ComplaintMailbox, false)
	if err != nil {
		return nil, fmt.Errorf("read harvest.complaint_mailbox: %w", err)
	}
	return complaint.NewMailbox(at, router, c.take), nil
}

// take implements complaint.Taker.
func (c *reports) take(ctx context.Context, env smtp.Envelope, r complaint.Report) string {
	if !r.Complains() {
		return fmt.Sprintf("counts nothing: a report of type %q is no complaint", r.Type)
	}
	for _, t := range r.Tokens {
		if !c.key.Sealed(t.Ref, t.Seal) {
			continue
		}
		said, err := c.proven(ctx, env, r, t.Ref)
		if err != nil {
			c.log.Error("a complaint could not be looked up and counts nothing; see weir status", "message", t.Ref.String(), "error", err)
			return "counts nothing: the records could not be read"
		}
		return said
	}
	return "counts nothing: not proven, the message inside has no Received field that this machine sealed"
}

// proven counts the complaint about a message of ours, if its record says that
// the one who complains got it.
func (c *reports) proven(ctx context.Context, env smtp.Envelope, r complaint.Report, id ref.Ref) (string, error) {
	l, found, err := c.message(ctx, id)
	if err != nil || !found {
		return "counts nothing: there is no record of the message " + id.String(), err
	}
	q := mailapi.Complaint{Addr: l.Peer.Unmap(), Reporter: r.Recipient}
	reporter, why := proves(l, q)
	if why == "" && len(took(l)) > 1 && c.tier(env.Peer) != smtp.Protected {
		// Each recipient has the proof in hand, and could complain for the others.
		why = "the message had several recipients, and who complains is believed of machines in smtp.forwarders and firewall.never_ban only"
	}
	if why == "" {
		why, err = c.past(ctx, l)
	}
	if err != nil || why != "" {
		return "counts nothing: " + why, err
	}
	d := mailapi.Complained{Addr: q.Addr, Ref: id, Reporter: reporter}
	d.Count, d.Need, d.Marked = c.watch.Complaint(c.now(), d.Addr, d.Reporter)
	return fmt.Sprintf("counts: %s about %v, %v", reporter, id, d), nil
}

func (c *reports) message(ctx context.Context, id ref.Ref) (l record.Line, found bool, err error) {
	story, err := c.store.Why(ctx, id.String(), 1)
	if err != nil || len(story.Records) == 0 {
		return l, false, err
	}
	return l, true, json.Unmarshal(story.Records[0], &l)
}

// past says why the message is over and done with. Without it, reports that were
// kept would convict a source again and again.
func (c *reports) past(ctx context.Context, l record.Line) (string, error) {
	if c.now().Sub(l.Time.Time) > reportable {
		return "the message is older than a week", nil
	}
	story, err := c.store.Why(ctx, peerRange(l.Peer.Unmap()).String(), 1)
	if err != nil {
		return "", err
	}
	for _, v := range story.Convictions {
		if v.Left != smtp.LeftDirectory && v.Time.After(l.Time.Time) { // else it was overturned
			return "the source was convicted since the message came", nil
		}
	}
	return "", nil
}
