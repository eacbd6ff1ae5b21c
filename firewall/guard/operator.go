package guard

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"mailweir/control"
	"mailweir/firewall"
	"mailweir/ref"
)

// Operator is a client of guard's operator socket: what the commands of weir
// call. Errors are those of package control.
type Operator struct{ c *control.Client }

// NewOperator makes a client of the guard that runs in runDir.
func NewOperator(runDir string) *Operator {
	return &Operator{control.NewClient(OperatorPath(runDir), "guard")}
}

// Status is everything guard can say of itself. Alarms empty means all is well.
type Status struct {
	Firewall  string             `json:"firewall"` // "on", "off" (by the operator), "disabled" (by the file)
	Observe   bool               `json:"observe"`
	Started   time.Time          `json:"started"`
	Bans      int                `json:"bans"`
	Allow     int                `json:"allow"`
	Engines   []EngineStatus     `json:"engines"`
	Protected []firewall.Guarded `json:"protected"`
	Offences  map[string]uint64  `json:"offences"` // by outcome, since Started
	Trials    []Trial            `json:"trials,omitempty"`
	Alarms    []string           `json:"alarms"` // each ends with what to do
}

// EngineStatus is how one engine stands, as the kernel says.
type EngineStatus struct {
	Engine     string            `json:"engine"`
	Working    bool              `json:"working"`
	Flood      bool              `json:"flood,omitempty"` // the flood guard is active
	Bans       int               `json:"bans"`
	LeftOut    int               `json:"left_out,omitempty"` // bans that stand and that it has no room for
	Pending    int               `json:"pending,omitempty"`  // changes of bans that are still to be written
	Busy       bool              `json:"busy,omitempty"`     // it writes for long: the rest is what it said before
	Interfaces []InterfaceStatus `json:"interfaces,omitempty"`
	Counters   map[string]uint64 `json:"counters,omitempty"`
	// New connections by country and by the networks that rules name.
	Places   map[string]firewall.Place `json:"places,omitempty"`
	Problems []string                  `json:"problems,omitempty"`
}

// InterfaceStatus is how an engine stands on one interface; Mode is "" when it
// does not.
type InterfaceStatus struct {
	Name string `json:"name"`
	Mode string `json:"mode"`
	Note string `json:"note,omitempty"`
}

// BanInfo is one ban with what the engines counted.
type BanInfo struct {
	Prefix    netip.Prefix    `json:"prefix"`
	Since     time.Time       `json:"since"`
	Until     time.Time       `json:"until"`
	Permanent bool            `json:"permanent,omitempty"` // Until is the last moment the ledger can write
	Reason    firewall.Reason `json:"reason"`
	Ref       ref.Ref         `json:"ref,omitzero"`
	Step      uint8           `json:"step"`
	Why       string          `json:"why,omitempty"` // the operator's words
	Packets   uint64          `json:"packets"`       // dropped, by all engines together
	Hits      []EngineHits    `json:"hits,omitempty"`
}

// EngineHits is what one engine counted for a ban.
type EngineHits struct {
	Engine  string    `json:"engine"`
	Packets uint64    `json:"packets"`
	First   time.Time `json:"first,omitzero"`
}

// BanRequest asks for a ban by the operator. For 0 means Policy.BanTTL, and
// Forever needs a Why.
type BanRequest struct {
	Prefix netip.Prefix `json:"prefix"`
	For    Duration     `json:"for,omitzero"`
	Why    string       `json:"why,omitempty"`
	TrialTerms
}

// AllowRequest asks to let a prefix in, whatever it does. For 0 means until it
// is removed.
type AllowRequest struct {
	Prefix netip.Prefix `json:"prefix"`
	For    Duration     `json:"for,omitzero"`
	Why    string       `json:"why,omitempty"`
	Author string       `json:"author,omitempty"`
}

// AllowEntry is one entry of the list of addresses that are always let in.
type AllowEntry struct {
	Prefix netip.Prefix `json:"prefix"`
	Time   time.Time    `json:"time"`
	Until  time.Time    `json:"until,omitzero"` // zero: until it is removed
	Why    string       `json:"why,omitempty"`
	Author string       `json:"author,omitempty"`
}

// Change is what a verb did. Warnings say what is not yet as it should be.
type Change struct {
	Bans     []BanInfo `json:"bans,omitempty"`   // made; left out where many were
	Lifted   []BanInfo `json:"lifted,omitempty"` // lifted
	Count    int       `json:"count"`            // bans made, or lifted
	Warnings []string  `json:"warnings,omitempty"`

	Trial     *Trial  `json:"trial,omitempty"`     // what of it is on trial
	Confirmed []Trial `json:"confirmed,omitempty"` // what was, and is not any more
}

// Explanation is everything guard knows of one address.
type Explanation struct {
	Address netip.Addr         `json:"address"`
	Banned  bool               `json:"banned"` // packets of it are dropped now
	Bans    []BanInfo          `json:"bans"`   // that cover it, widest first
	Past    []BanInfo          `json:"past"`   // that are over, and double the next one
	Allow   []AllowEntry       `json:"allow"`  // that cover it
	Guards  []firewall.Guarded `json:"guards"` // that would veto a ban of it
}

// Status asks how guard stands.
func (o *Operator) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, o.c.Do(ctx, http.MethodGet, "/status", nil, &s)
}

// Counters asks for what each engine counted since it was put in the kernel, by
// the engine's name: packets by reason, new connections by country and network.
// Engines that do not work are left out. It is cheap, for who asks often.
func (o *Operator) Counters(ctx context.Context) (map[string]firewall.Counters, error) {
	var c map[string]firewall.Counters
	return c, o.c.Do(ctx, http.MethodGet, "/counters", nil, &c)
}

// Bans calls each for every ban that stands, in no order; with a valid addr
// only for those that cover it or lie in it.
func (o *Operator) Bans(ctx context.Context, within netip.Prefix, each func(BanInfo) error) error {
	path := "/bans"
	if within.IsValid() {
		path += "?" + url.Values{"within": {within.String()}}.Encode()
	}
	return o.c.Stream(ctx, http.MethodGet, path, nil, func(item json.RawMessage) error {
		var b BanInfo
		if err := json.Unmarshal(item, &b); err != nil {
			return err
		}
		return each(b)
	})
}

// Ban bans one prefix.
func (o *Operator) Ban(ctx context.Context, r BanRequest) (Change, error) {
	var c Change
	return c, o.c.Do(ctx, http.MethodPost, "/ban", r, &c)
}

// BanText bans the prefixes of a text of PREFIX [DURATION] [WHY] lines in one
// transaction. The Lines of its *control.Error name every line that is wrong.
func (o *Operator) BanText(ctx context.Context, text io.Reader, rest BanRequest) (Change, error) {
	how, err := json.Marshal(rest)
	if err != nil {
		return Change{}, err
	}
	var c Change
	return c, o.c.Do(ctx, http.MethodPost, "/ban-text?"+url.Values{"rest": {string(how)}}.Encode(), text, &c)
}

// Unban lifts the ban of prefix, the bans inside it and the automatic bans
// that cover it, and forgets that they were: the next one is a first one.
func (o *Operator) Unban(ctx context.Context, prefix netip.Prefix) (Change, error) {
	var c Change
	return c, o.c.Do(ctx, http.MethodPost, "/unban", prefixRequest{prefix}, &c)
}

// Allow lets a prefix in from now on and lifts the bans under it.
func (o *Operator) Allow(ctx context.Context, r AllowRequest) (Change, error) {
	var c Change
	return c, o.c.Do(ctx, http.MethodPost, "/allow", r, &c)
}

// Disallow removes an entry of the allow list, on trial unless the terms say
// otherwise. Where its removal is on trial already nothing changes.
func (o *Operator) Disallow(ctx context.Context, prefix netip.Prefix, terms TrialTerms) (Change, error) {
	var c Change
	return c, o.c.Do(ctx, http.MethodPost, "/disallow", disallowRequest{prefix, terms}, &c)
}

// Confirm has everything on trial in force for good.
func (o *Operator) Confirm(ctx context.Context) (Change, error) {
	var c Change
	return c, o.c.Do(ctx, http.MethodPost, "/confirm", nil, &c)
}

// AllowList lists who is always let in, in order of prefixes.
func (o *Operator) AllowList(ctx context.Context) ([]AllowEntry, error) {
	var list []AllowEntry
	return list, o.c.Do(ctx, http.MethodGet, "/allow", nil, &list)
}

// Switch takes the firewall out of the kernel (off) or puts it back (on). Off
// holds over restarts of guard. When guard is not running, see SwitchOff.
func (o *Operator) Switch(ctx context.Context, on bool) (Change, error) {
	var c Change
	return c, o.c.Do(ctx, http.MethodPost, "/switch", switchRequest{on}, &c)
}

// Reload makes guard read its policy again; a bad one changes nothing. Rules
// about places that are new in it are on trial, unless the terms say otherwise.
func (o *Operator) Reload(ctx context.Context, terms TrialTerms) (Change, error) {
	var c Change
	return c, o.c.Do(ctx, http.MethodPost, "/reload", terms, &c)
}

// Explain tells everything guard knows of an address.
func (o *Operator) Explain(ctx context.Context, addr netip.Addr) (Explanation, error) {
	var e Explanation
	return e, o.c.Do(ctx, http.MethodGet, "/why?"+url.Values{"addr": {addr.String()}}.Encode(), nil, &e)
}

type prefixRequest struct {
	Prefix netip.Prefix `json:"prefix"`
}

type disallowRequest struct {
	Prefix netip.Prefix `json:"prefix"`
	TrialTerms
}

type switchRequest struct {
	On bool `json:"on"`
}
