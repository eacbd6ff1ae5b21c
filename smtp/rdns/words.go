package rdns

import (
	"slices"
	"strings"
)

// accessStems are parts of words that only access networks use.
var accessStems = []string{
	"adsl", "vdsl", "xdsl", "sdsl", "dhcp", "pppoe", "dialup", "dialin", "dialpool", "broadband", "cablemodem", "modemcable",
	"telecable", "cablelink", "gprs", "wimax", "docsis", "ippool", "dynpool", "dynip", "dyncust",
	"laajakaista", "bredband", "breitband", "bandalarga", "bandaancha",
}

// accessWords are whole words for access lines and the gear they end at.
var accessWords = set(`
	hdsl idsl ddsl dyn dynamic dinamic dynamique dinamico dinamica dinamik pool pools dail pooles cable catv
	cpe cpes hfc ubr cmts isdn gpon epon fttx ftth fttb fttc fios hsd hsi hsdpa umts cdma evdo wline dclient bbcust pppoa
	resid residential resnet
`)

// belowWords mean access lines as a label below which hosts are numbered. In
// a host's own label they may mean anything: cm1 may manage content.
var belowWords = set(`
	cm res bband dial dip pon lte bras tnt lns l2tp abo residence kabel nomade mobiles cgn cgnat hotspot broad student students
	user users cust customer customers client clients subs subscriber wlan wifi
`)

// lineWords are said of lines, too, but need numbers beside them to mean one.
var lineWords = set(`
	ip ips ipv host hosts user users client clients customer customers cust custs subs sub subscr subscriber subscribers
	static stat statique statico estatico fix fixed fixip home node rev reverse nat
	access accesso acceso mobile mobil wireless wifi wlan modem red net biz business pc fiber fibre fibra wan vpn
	leased bb dsn addr address inaddr range ext cm res dial dip bras tnt lns abo kabel lte vlan
`)

// placeholders stand where nobody gave a name.
var placeholders = set(`reverse rdns norev noptr unknown unassigned unused unallocated unspecified undefined localhost localdomain`)

// privateTops stand for domains in names that gear at home gives itself. They
// are nobody's (RFC 6761, RFC 6762 appendix G).
var privateTops = set(`lan home local internal intranet private corp domain invalid localhost localdomain router gateway`)

// roleStems are parts of words that speak for a mail host.
var roleStems = []string{
	"mail", "smtp", "relay", "outbound", "outgoing", "postfix", "sendmail", "exchange", "listserv", "newsletter", "bounce",
	"poczta", "correo", "courriel", "courrier", "spamfilter", "antispam", "barracuda", "ironport", "zimbra", "mxout", "postmaster",
}

// roleWords are whole words that do.
var roleWords = set(`
	mx mxs pmx mmx imx omx smx mxa mxb mxe mxi mxin mxc mxd mta pmta emta omta imta mtas mtaout out mout post posta postal pochta posten
	imap pop smx lists list lyris sympa majordomo edm esp sender sendgrid delivery notify notifications newsletters news spam esa
	mgw mgate mse exch messaging mandrill mcsv reply replies returns autoreply envelope groupwise notes domino
`)

// serverWords speak for a host that somebody runs, whatever for.
var serverWords = set(`
	server servers srv serv svr sv web www ns dns vps vm vhost hosting cloud gw gate gateway fw firewall proxy mon db sql
	ftp shell dedi dedicated app apps api cpanel plesk ex edge
`)

func set(words string) map[string]bool {
	m := make(map[string]bool)
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

// access is the first word for an access line below the registered domain.
func (n name) access() run {
	for _, w := range n.words {
		if w.label < n.org() && (isAccess(w.text) || w.label > 0 && belowWords[w.text] && n.below(w.label)) {
			return w
		}
	}
	return run{}
}

// below says whether a label speaks of lines and nothing else: cm-shared is a
// mailer's, cm-3 a cable modem's.
func (n name) below(label int) bool {
	return !slices.ContainsFunc(n.words, func(w run) bool {
		return w.label == label && len(w.text) > 3 && !belowWords[w.text] && !lineWords[w.text] && !isAccess(w.text)
	})
}

func isAccess(word string) bool {
	if accessWords[word] || strings.HasPrefix(word, "ppp") || strings.HasPrefix(word, "dsl") || strings.HasSuffix(word, "dsl") {
		return true
	}
	if strings.Contains(word, "dsl") && !strings.Contains(word, "ndsl") {
		return true
	}
	return slices.ContainsFunc(accessStems, func(stem string) bool { return strings.Contains(word, stem) })
}

// onlyAccess says whether nothing but words for access lines stands below the
// registered domain.
func (n name) onlyAccess() bool {
	for _, w := range n.words {
		if w.label < n.org() && (w.text == "cable" || !isAccess(w.text) && w.text != "ip") {
			return false
		}
	}
	return true
}

// placeholder is the word that says that there is no name.
func (n name) placeholder() string {
	for _, w := range n.words {
		if placeholders[w.text] {
			return w.text
		}
	}
	if top := n.full[strings.LastIndexByte(n.full, '.')+1:]; privateTops[top] {
		return top
	}
	return ""
}

// lineCompany is the word for access lines that the registered domain's own
// label is: what is numbered below pppool.example is a line.
func (n name) lineCompany() string {
	for _, w := range n.words {
		if w.label == n.org() && isAccess(w.text) && n.labels[n.org()] == w.text {
			return w.text
		}
	}
	return ""
}

// line is the first word that may be said of a line.
func (n name) line() string {
	for _, w := range n.words {
		if w.label < n.org() && lineWords[w.text] {
			return w.text
		}
	}
	return ""
}

// role is the first word that speaks for a mail host. A domain may be called
// after mail as well, or be known to send nothing else.
func (n name) role() string {
	for _, w := range n.words {
		if w.label < n.org() && isRole(w.text) || w.label == n.org() && (strings.Contains(w.text, "mail") || strings.Contains(w.text, "smtp")) {
			return w.text
		}
	}
	return n.mailer()
}

func isRole(word string) bool {
	if roleWords[word] {
		return true
	}
	if len(word) >= 5 && strings.HasSuffix(word, "out") {
		return true
	}
	if len(word) <= 8 && (strings.HasSuffix(word, "mx") || strings.HasSuffix(word, "mta") || strings.HasPrefix(word, "mta")) {
		return true
	}
	if strings.Contains(word, "framerelay") {
		return false
	}
	return slices.ContainsFunc(roleStems, func(stem string) bool { return strings.Contains(word, stem) })
}

// server says whether the host's own label begins with a server's role.
func (n name) server() bool {
	return len(n.words) > 0 && n.words[0].label == 0 && serverWords[n.words[0].text] && n.org() > 0
}

// numberedByM says whether the host is one of m1-2, m1-3 …: large mail systems
// number their hosts so, by the last octets.
func (n name) numberedByM() bool {
	return len(n.words) > 0 && n.words[0].label == 0 && n.words[0].text == "m"
}

// keyword is the operator's first keyword that stands in the name at label
// borders. In the registered domain's own label it counts if that label is
// nothing else, or made of an address: pool-shop.example sells pools.
func (n name) keyword(keywords []string, address bool) string {
	for _, k := range keywords {
		k = strings.ToLower(k)
		for from := 0; k != ""; {
			i := strings.Index(n.full[from:], k)
			if i < 0 {
				break
			}
			at := from + i
			from = at + len(k)
			if n.bordered(at, from) && n.inHost(at, address) {
				return k
			}
		}
	}
	return ""
}

func (n name) bordered(from, to int) bool {
	return (from == 0 || kind(n.full[from-1]) != 'a') && (to == len(n.full) || kind(n.full[to]) != 'a')
}

// inHost says whether what stands at an offset speaks of the host.
func (n name) inHost(at int, address bool) bool {
	switch label := strings.Count(n.full[:at], "."); {
	case label < n.org():
		return true
	case label > n.org():
		return false // the public suffix
	}
	if address {
		return true
	}
	for _, w := range n.words {
		if w.label == n.org() && !isAccess(w.text) {
			return false
		}
	}
	return true
}
