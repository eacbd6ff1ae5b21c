package relay

import "regexp"

// remedy is what the operator can do about a backend's answer, by what is known
// of the servers that give it; "" where nothing is.
func remedy(words string) string {
	text := plain(words)
	for _, r := range remedies {
		if r.words.MatchString(text) {
			return r.hint
		}
	}
	return ""
}

var remedies = []struct {
	words *regexp.Regexp
	hint  string
}{
	{re(`4\.7\.[5-6]\d\d|tenantattribution|5\.7\.64`),
		"Exchange Online: make an inbound connector for our address or certificate, and exempt it from throttling with enhanced filtering"},
	{re(`too many (concurrent |simultaneous )?connections|concurrent smtp|too many messages|too much mail|rate`),
		"give our address a higher limit there: Postfix smtpd_client_event_limit_exceptions, Exim smtp_accept_max_per_host, Exchange MaxInboundConnectionPerSource"},
	{re(`gr[ae]y-?\s?-?list`), "exempt our address from greylisting there"},
	{re(`relay|not.{0,20}local domain|rcpthosts`),
		"have the backend accept this domain: Postfix mydestination, virtual_mailbox_domains or relay_domains, Exchange accepted domains"},
	{re(`starttls|encryption`), `set tls of this backend to "required"`},
	{re(`authenticat|anonymous`), "let our address deliver there without login: Exchange needs a receive connector with anonymous users"},
	{re(`\bspf\b|dmarc|unauthenticated`), "turn SPF and DMARC checks off there for what comes from our address: we make them, and every message comes from us"},
	{re(`blocked|black ?list|blocklist|dnsbl|\brbl|spamhaus|reputation|reverse dns|\bptr\b|client host rejected`),
		"exempt our address from block lists and checks of the client host there"},
	{re(`connection refused`), "nothing listens there: start the server, or correct the backend's url"},
	{re(`no such host`), "correct the host in the backend's url"},
}
