package mailrole

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"sync"

	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/dns"
	"mailweir/record"
	"mailweir/smtp"
	"mailweir/smtp/scout"
)

// lookups is who asks the network about clients: one resolver for the life of
// the role, and the DNS lists of the file, which a reload may change.
type lookups struct {
	dns    *dns.Resolver
	alarms record.Alarms
	good   func(netip.Addr) bool
	well   func() // told when names are looked up again

	mu    sync.Mutex
	from  []config.DNSBL
	lists *scout.Lists
	stop  func() // ends the tests of lists, and their alarms
}

const alarmDNS = "dns"

func newLookups(cfg config.Config, alarms record.Alarms, good func(netip.Addr) bool) *lookups {
	l := &lookups{alarms: alarms, good: good, well: func() {}, stop: func() {}}
	l.dns = dns.New(dns.Options{Servers: cfg.DNS.Servers, Timeout: cfg.DNS.Timeout, Changed: l.sick})
	return l
}

// sick tells of a resolver that cannot be believed.
func (l *lookups) sick(why string) {
	if why == "" {
		l.alarms.Clear(alarmDNS, "names are looked up again")
		l.well()
		return
	}
	l.alarms.Alarm(alarmDNS, "DNS is sick, so that nothing is held against any sender for his names, lists or SPF: "+why+
		": see to dns.servers, or to the resolver")
}

// suspended tells of a DNS list that is not asked.
func (l *lookups) suspended(name, why string) {
	if why == "" {
		l.alarms.Clear("dnsbl_"+name, "dnsbl."+name+" is asked")
		return
	}
	l.alarms.Alarm("dnsbl_"+name, fmt.Sprintf("dnsbl.%s is suspended and counts for nobody: %s: see to it, or take it out of the file", name, why))
}

// use puts the lists and resolvers of a file in force, and returns who asks
// them.
func (l *lookups) use(life context.Context, background *sync.WaitGroup, cfg config.Config) smtp.Scout {
	l.dns.Use(cfg.DNS.Servers, cfg.DNS.Timeout)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lists == nil || !reflect.DeepEqual(l.from, cfg.DNSBLs) {
		l.stop()
		l.from = cfg.DNSBLs
		l.lists = scout.NewLists(scout.ListOptions{DNS: l.dns, Lists: settings.ScoutLists(cfg), Good: l.good, Changed: l.suspended})
		ctx, cancel := context.WithCancel(life)
		lists, ended := l.lists, make(chan struct{})
		l.stop = func() { cancel(); <-ended }
		background.Go(func() { defer close(ended); lists.Run(ctx) })
	}
	return scout.New(scout.Options{DNS: l.dns, Lists: l.lists, Classify: settings.Classifier(cfg.Checks.RDNSKeywords)})
}

// status is how the resolvers and the lists are.
func (l *lookups) status() (dns.Status, []scout.ListStatus) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lists := []scout.ListStatus{}
	if l.lists != nil {
		lists = append(lists, l.lists.Status()...)
	}
	return l.dns.Status(), lists
}
