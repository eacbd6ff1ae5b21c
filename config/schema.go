package config

import "time"

// section is one table of the file. A named section is a table of tables, such
// as backend: [backend.office].
type section struct {
	path  string // "" is the top of the file
	named bool
	doc   string
	keys  []key
}

// key is one key of a section: where its value goes, and what the manual says.
// The type of what place returns decides what may be written; within narrows it.
type key struct {
	name   string
	place  func(c *Config, name string) any // name: of the entry of a named section
	within func(value any) (what, hint string)
	must   bool // without it a file cannot be used
	// table: the value is a table of names, each of which element narrows.
	table   bool
	element func(name string) (what, hint string)
	// lines narrows each line of a table of lists, instead of element.
	lines   func(name string, values []string) (what, hint string)
	instead string // what to write, where that of any address with a port would mislead
	// atStart: a reload leaves the value that is in force as it is.
	atStart bool
	doc     string
}

// schema is every key that this release acts on, in the order of the manual.
// The names are a contract: none is ever renamed.
var schema = []section{
	{doc: "The machine, and what holds for all of it.", keys: []key{
		{name: "hostname", must: true, atStart: true, place: func(c *Config, _ string) any { return &c.Hostname }, within: fullName,
			doc: "The name of this machine in the greeting, in EHLO and in Received headers. It is fully qualified, resolves to this machine's address, and that address resolves back to it: the servers you send to check both."},
		{name: "observe", place: func(c *Config, _ string) any { return &c.Observe },
			doc: "`true`: everything is judged and recorded with what would have happened, but nothing is refused by policy and the kernel drops nothing. What cannot be delivered anyway (unknown recipients, foreign domains, messages over the limit) is refused all the same. What is found out meanwhile stays found out: who is known to be good, who was convicted, and which domain is under attack. Taken out during an attack, strangers hear 451 from then on, as `weir reload` says, until the attack has been over for ten minutes."},
		{name: "state_dir", atStart: true, place: func(c *Config, _ string) any { return &c.StateDir }, within: absolute,
			doc: "What outlives a restart: bans, lists, records, the self-signed certificate, the last good configuration."},
		{name: "run_dir", atStart: true, place: func(c *Config, _ string) any { return &c.RunDir }, within: absolute,
			doc: "The sockets by which commands find the running system; see `--run-dir`."},
		{name: "users.mail", atStart: true, place: func(c *Config, _ string) any { return &c.Users.Mail }, within: notEmpty,
			doc: "The unprivileged system user that the mail role runs as. `weir run` makes nobody: `useradd --system --no-create-home --shell /usr/sbin/nologin weir-mail`."},
	}},
	{path: "smtp", doc: "How the edge talks to clients.", keys: []key{
		{name: "listen", atStart: true, place: func(c *Config, _ string) any { return &c.SMTP.Listen }, within: someListeners,
			doc: "Addresses and ports to listen on; IPv6 addresses stand in brackets."},
		{name: "max_message_size", place: func(c *Config, _ string) any { return &c.SMTP.MaxMessageSize }, within: between(64*KiB, 2*GiB),
			doc: "The largest message that is taken, as announced by SIZE (RFC 1870). A domain may have its own."},
		{name: "max_recipients", place: func(c *Config, _ string) any { return &c.SMTP.MaxRecipients }, within: between(1, 10000),
			doc: "Recipients in one transaction; more hear 452 and come again. RFC 5321 section 4.5.3.1.8 asks for at least 100."},
		{name: "max_connections", place: func(c *Config, _ string) any { return &c.SMTP.MaxConnections }, within: between(1, 1000000),
			doc: "Connections open at once, from everywhere. The last tenth is for sources that are known to be good."},
		{name: "per_source.open", place: func(c *Config, _ string) any { return &c.SMTP.PerSource.Open }, within: between(1, 100000),
			doc: "Connections that one IPv4 address or IPv6 /64 may have open at once. Its /24 or /48 may have three times as many, forwarders five times."},
		{name: "per_source.new_per_minute", place: func(c *Config, _ string) any { return &c.SMTP.PerSource.NewPerMinute }, within: between(1, 1000000),
			doc: "New connections that one IPv4 address or IPv6 /64 may make in a minute."},
		{name: "timeouts.command", place: func(c *Config, _ string) any { return &c.SMTP.Timeouts.Command }, within: between(time.Second, time.Hour),
			doc: "How long a client may think about its next command. RFC 5321 section 4.5.3.2.7 asks for 5 minutes."},
		{name: "timeouts.data_idle", place: func(c *Config, _ string) any { return &c.SMTP.Timeouts.DataIdle }, within: between(time.Second, time.Hour),
			doc: "How long a client may pause within a message."},
		{name: "timeouts.session", place: func(c *Config, _ string) any { return &c.SMTP.Timeouts.Session }, within: between(time.Second, day),
			doc: "How long a connection may last in all."},
		{name: "greet_wait", place: func(c *Config, _ string) any { return &c.SMTP.GreetWait }, within: between(time.Duration(0), 10*time.Second),
			doc: "The longest wait of a stranger before the greeting. Who talks meanwhile is no mail server."},
		{name: "forwarders", place: func(c *Config, _ string) any { return &c.SMTP.Forwarders },
			doc: "Prefixes of your own backup MX and of known forwarders: not judged by address, never counted for harvest, never banned."},
	}},
	{path: "tls", doc: "What STARTTLS offers to clients.", keys: []key{
		{name: "certificates", place: func(c *Config, _ string) any { return &c.TLS.Certificates },
			doc: "Pairs of PEM files, `[{ cert = \"/etc/mailweir/mx.pem\", key = \"/etc/mailweir/mx.key\" }]`. The user of the mail role reads both; the client's SNI picks, and files that change are read again within a minute. Empty: a self-signed certificate, made at the first start and renewed in time."},
		{name: "min_version", place: func(c *Config, _ string) any { return &c.TLS.MinVersion }, within: oneOf("1.2", "1.3"),
			doc: "The oldest version of TLS that is spoken. Who speaks only older ones sends in clear."},
	}},
	{path: "dns", doc: "Who is asked for names. A caching, validating resolver on this machine is best: block lists refuse the big public ones.", keys: []key{
		{name: "servers", place: func(c *Config, _ string) any { return &c.DNS.Servers }, within: resolvers, instead: `"127.0.0.1" or "192.0.2.53:53"`,
			doc: "Addresses of resolvers, with port 53 where none is given. Empty: those of /etc/resolv.conf."},
		{name: "timeout", place: func(c *Config, _ string) any { return &c.DNS.Timeout }, within: between(100*time.Millisecond, time.Minute),
			doc: "How long one look-up may take."},
	}},
	{path: "firewall", doc: "What the kernel drops.", keys: []key{
		{name: "enabled", place: func(c *Config, _ string) any { return &c.Firewall.Enabled },
			doc: "`false`: bans are kept, but the kernel is left alone."},
		{name: "engine", atStart: true, place: func(c *Config, _ string) any { return &c.Firewall.Engine }, within: oneOf("auto", "xdp", "nft"),
			doc: "What enforces: `xdp`, `nft` (nftables), or `auto`: both, each as far as it works here."},
		{name: "xdp_mode", atStart: true, place: func(c *Config, _ string) any { return &c.Firewall.XDPMode }, within: oneOf("auto", "native", "generic"),
			doc: "`native` runs in the network driver, `generic` behind it on any card; `auto` takes native where the driver can."},
		{name: "interfaces", place: func(c *Config, _ string) any { return &c.Firewall.Interfaces }, within: interfaceNames,
			doc: "Where the packet program stands. Empty: on the interfaces that carry an address of smtp.listen."},
		{name: "ports", place: func(c *Config, _ string) any { return &c.Firewall.Ports },
			doc: "Protected TCP ports; packets to others are never dropped. Empty: those of smtp.listen."},
		{name: "ban_ttl", place: func(c *Config, _ string) any { return &c.Firewall.BanTTL }, within: between(time.Hour, 30*day),
			doc: "How long a first ban lasts. It doubles each time a source comes back to it within 30 days."},
		{name: "ban_max", place: func(c *Config, _ string) any { return &c.Firewall.BanMax }, within: between(time.Hour, 14*day),
			doc: "No automatic ban is longer. `weir ban` may be."},
		{name: "never_ban", place: func(c *Config, _ string) any { return &c.Firewall.NeverBan },
			doc: "Prefixes that no ban hits. This machine's own addresses, its gateways, resolvers and backends are always among them."},
		{name: "syn_limit", place: func(c *Config, _ string) any { return &c.Firewall.SYNLimit },
			doc: "`true`: the kernel drops what a source opens beyond eight times smtp.per_source.new_per_minute. The gate, which says so, comes first; this is for who does not listen. It bans nobody, since an opening packet proves no address, and who is allowed or protected may open any number."},
		{name: "flood_per_second", place: func(c *Config, _ string) any { return &c.Firewall.FloodPerSecond }, within: between(0, 10_000_000),
			doc: "From so many connections a second, opened by all together, the flood guard is active, with an alarm: a /24 or /48 may then open only four times what one source may. XDP only. It ends ten seconds after the flood. `0`: never."},
		{name: "explain_per_hour", place: func(c *Config, _ string) any { return &c.Firewall.ExplainPerHour }, within: between(0, 60),
			doc: "Connections an hour that the kernel lets through from a banned IPv4 address or IPv6 /64, so that it hears the reason (554 5.7.1, until when, the ref); all else of it stays dropped. `0`: silence."},
		{name: "detach_on_stop", place: func(c *Config, _ string) any { return &c.Firewall.DetachOnStop },
			doc: "`true`: stopping takes the firewall out of the kernel. Otherwise bans hold while nothing of ours runs."},
	}},
	{path: "geo", doc: "Where addresses are.", keys: []key{
		{name: "database", place: func(c *Config, _ string) any { return &c.Geo.Database }, within: emptyOrAbsolute,
			doc: "A database of countries in MaxMind's format (GeoLite2-Country, DB-IP lite, …), read again when it changes. Empty: the one that comes with the program."},
		{name: "asn", place: func(c *Config, _ string) any { return &c.Geo.ASN }, within: emptyOrAbsolute,
			doc: "A database of autonomous systems in MaxMind's format, read again when it changes. Empty: none."},
		{name: "drop", place: func(c *Config, _ string) any { return &c.Geo.Drop }, within: places,
			doc: "Countries (two letters, ISO 3166-1) and networks (`AS64500`, which need geo.asn) from which nobody may connect: the kernel drops new connections to the protected ports. Connections that this machine opens are answered all the same, and what `weir allow` lets in by address comes in. The kernel knows no names: to refuse a country and let some of its senders in by name, use geo.reject."},
		{name: "ban", place: func(c *Config, _ string) any { return &c.Geo.Ban }, within: places,
			doc: "Countries and networks whose first completed connection earns an ordinary ban (firewall.ban_ttl, longer each time): the kernel then drops every packet of that address, and `weir bans` names it. Whom smtp.forwarders, firewall.never_ban or `weir allow` name is let in; a domain's own settings come too late for who is banned, so to spare some senders by name use geo.reject."},
		{name: "reject", place: func(c *Config, _ string) any { return &c.Geo.Reject }, within: places,
			doc: "Countries (`\"KP\"`) and networks (`\"AS64500\"`) whose mail is refused, with a reason. A domain may have its own."},
		{name: "score", table: true, element: place, place: func(c *Config, _ string) any { return &c.Geo.Score },
			doc: "What a country or a network adds to the score: `{ KP = 3, AS64500 = 2 }`. A domain may have its own."},
	}},
	{path: "harvest", doc: "The detection of directory harvest (\"rumplestiltskin\") attacks: who guesses addresses is banned.", keys: []key{
		{name: "enabled", place: func(c *Config, _ string) any { return &c.Harvest.Enabled },
			doc: "`false`: nobody is convicted of guessing."},
		{name: "unknown_per_hour", place: func(c *Config, _ string) any { return &c.Harvest.UnknownPerHour }, within: between(2, 100000),
			doc: "Distinct unknown recipients within an hour that convict a source; half as many (13 of 25) convict a stranger while the domain is under attack …"},
		{name: "share_per_hour", place: func(c *Config, _ string) any { return &c.Harvest.SharePerHour }, within: between(0.1, 1.0),
			doc: "… when at least this share of its distinct recipients is unknown. A low share bans senders of old lists."},
		{name: "unknown_per_day", place: func(c *Config, _ string) any { return &c.Harvest.UnknownPerDay }, within: between(2, 100000),
			doc: "Distinct unknown recipients within a day that convict a source …"},
		{name: "share_per_day", place: func(c *Config, _ string) any { return &c.Harvest.SharePerDay }, within: between(0.1, 1.0),
			doc: "… when at least this share of its distinct recipients is unknown."},
		{name: "absolute_per_day", place: func(c *Config, _ string) any { return &c.Harvest.AbsolutePerDay }, within: between(2, 1000000),
			doc: "Distinct unknown recipients within a day that convict whatever the share."},
		{name: "traps", place: func(c *Config, _ string) any { return &c.Harvest.Traps }, within: trapNames,
			doc: "Spamtraps, which nobody was ever given: addresses (`trap@example.com`), patterns (`old-*@example.com`) or whole domains (`trap.example.com`). Who writes to one is told that the recipient is unknown."},
		{name: "trap_hits", place: func(c *Config, _ string) any { return &c.Harvest.TrapHits }, within: between(1, 100),
			doc: "Different spamtraps within a week that convict a source without good history. Any other, the null sender, and hosts whose SPF and name are in order need another offence: somebody else may have led them there."},
		{name: "complaints", place: func(c *Config, _ string) any { return &c.Harvest.Complaints }, within: between(1, 1000),
			doc: "Proven complaints of different recipients within a week that convict a source when it comes again (`weir complain`)."},
		{name: "complaint_mailbox", place: func(c *Config, _ string) any { return &c.Harvest.ComplaintMailbox }, within: emptyOrMailbox,
			doc: "An address in one of your domains, such as `abuse-reports@example.com`, at which feedback reports (ARF, RFC 5965) are read as complaints. Only what is proven counts: the report has the header of the message inside, as it was delivered, and the recipient of that message counts once. Mail to the address goes on to the backend too where that has such a mailbox; else reports end here, and other mail that is for nobody else is refused. Empty: none."},
	}},
	{path: "checks", doc: "What is done when a check fails. A domain may have its own, by the same keys.", keys: []key{
		{name: "profile", place: func(c *Config, _ string) any { return &c.Checks.Profile }, within: oneOf("balanced", "strict"),
			doc: "`balanced`: most checks add to a score, and the sum decides. `strict`: each failed check refuses by itself. docs/refusals.md has both for each check."},
		{name: "reject_score", place: func(c *Config, _ string) any { return &c.Checks.RejectScore }, within: between(1.0, 100.0),
			doc: "The sum from which mail is refused. From 4 a source is suspect: it waits longer at the gate, and is convicted of guessing sooner."},
		{name: "rdns_keywords", place: func(c *Config, _ string) any { return &c.Checks.RDNSKeywords }, within: keywords,
			doc: "Words that make a client's name that of a dial-up line (`rdns_dynamic`), where they stand between dots, hyphens, digits or ends: `pool` is in `pool-1-2-3-4.isp.example` and not in `liverpool.example`."},
		{name: "set", table: true, element: checkName, place: func(c *Config, _ string) any { return &c.Checks.Set },
			doc: "Single checks, in place of the profile: `\"off\"`, `\"log\"` (recorded, nothing else), a score, `\"defer\"` or `\"reject\"`: `rdns_generic = \"reject\"`."},
	}},
	{path: "dnsbl", named: true, doc: "A DNS list that is asked, under a name that is shown in replies, records and status. A list must pass its self-test (RFC 5782) before it counts, and is suspended, with an alarm, when it goes mad.", keys: []key{
		{name: "zone", must: true, place: func(c *Config, n string) any { return &c.dnsbl(n).Zone }, within: zone,
			doc: "Where it is asked. It may hold your key, and is never shown."},
		{name: "kind", place: func(c *Config, n string) any { return &c.dnsbl(n).Kind }, within: oneOf("address", "domain", "allow"),
			doc: "`address`: lists clients. `domain`: lists domains, and is asked for those of the sender, of HELO and of the client's name. `allow`: lists clients that are good; its scores are subtracted."},
		{name: "scores", table: true, element: answers, place: func(c *Config, n string) any { return &c.dnsbl(n).Scores },
			doc: "What its answers add to the score, as the list documents them: `{ \"127.0.0.2\" = 8, \"127.0.0.4-7\" = 8, \"127.0.*.3\" = 2 }`. Any other answer counts nothing."},
		{name: "lookup", place: func(c *Config, n string) any { return &c.dnsbl(n).Lookup },
			doc: "The list's own page about an entry, for the refused: `https://check.example.org/?q=%{addr}`; `%{domain}` for a domain list."},
		{name: "reply", place: func(c *Config, n string) any { return &c.dnsbl(n).Reply },
			doc: "The words of the refusal, in place of ours, with %ip, %list, %code and %url."},
	}},
	{path: "feed", named: true, doc: "A list of addresses and prefixes that others publish, such as Spamhaus DROP (`https://www.spamhaus.org/drop/drop_v4.json`). It is looked at now and then, the last good one holds meanwhile and after a restart, and one that suddenly is empty, much longer or much shorter is not taken, with an alarm. What `weir allow` lets in is let in all the same, and what touches an address of yours is left out.", keys: []key{
		{name: "source", must: true, place: func(c *Config, n string) any { return &c.feed(n).Source }, within: feedSource,
			doc: "An https:// or http:// address, or a file that the user of the mail role can read: an address or prefix a line, with comments behind `#` or `;`, or JSON objects with `cidr`, one a line."},
		{name: "action", place: func(c *Config, n string) any { return &c.feed(n).Action }, within: oneOf("reject", "ban"),
			doc: "`reject`: as `weir block` does, in place of the greeting. `ban`: the first command of such a source earns an ordinary ban, and the kernel drops it (firewall.ban_ttl); where an entry of `weir allow` could let it in by its name or for a recipient, the first recipient for whom none does."},
		{name: "refresh", place: func(c *Config, n string) any { return &c.feed(n).Refresh }, within: between(10*time.Minute, 7*day),
			doc: "How often it is looked at, a tenth more or less; Spamhaus wants it to be hours. After three times as long without success it is stale, with an alarm."},
		{name: "max_entries", place: func(c *Config, n string) any { return &c.feed(n).MaxEntries }, within: between(1, 1_000_000),
			doc: "How many entries it may have, of up to 256 bytes each: a longer one is not taken."},
	}},
	{path: "providers", doc: "The large mail providers, whose hosts many people share: no ban hits them, no DNS list counts against them and they never wait for the greylist; all other checks count. Their networks are those of their SPF records, looked up twice a day. Your own narrower `weir block` beats them.", keys: []key{
		{name: "spare", place: func(c *Config, _ string) any { return &c.Spare }, within: providerNames,
			doc: "`google`, `microsoft`, `yahoo`, `apple`; or the name of a domain whose SPF record names others to spare. `[]`: nobody."},
	}},
	{path: "greylist", doc: "The first mail of a stranger is put off with 451: a mail server comes again by itself, most of what sends spam does not.", keys: []key{
		{name: "mode", place: func(c *Config, _ string) any { return &c.Greylist.Mode }, within: greylistMode,
			doc: "`suspicious`: strangers that some check scored, and suspects; never a host whose SPF passes and whose name is its own. `all`: every stranger. `off`: nobody. Known and trusted sources, postmaster and the null sender never wait."},
		{name: "delay", place: func(c *Config, _ string) any { return &c.Greylist.Delay }, within: greylistDelay,
			doc: "How long after its first contact a sender passes. The reply says what is left, and an early retry does not begin the wait anew."},
		{name: "window", place: func(c *Config, _ string) any { return &c.Greylist.Window }, within: greylistWindow,
			doc: "Who has not come again after this time begins anew."},
		{name: "pass", place: func(c *Config, _ string) any { return &c.Greylist.Pass }, within: greylistPass,
			doc: "How long who passed is remembered after its last mail."},
	}},
	{path: "backend", named: true, doc: "A mail server that is protected, under a name of your own.", keys: []key{
		{name: "url", must: true, place: func(c *Config, n string) any { return &c.backend(n).URL }, within: notEmpty,
			doc: "`smtp://host:25`, `smtps://host:465`, `lmtp://host:24`, `lmtp+unix:///path`, or `maildir:/path` for trying it out."},
		{name: "tls", place: func(c *Config, n string) any { return &c.backend(n).TLS }, within: oneOf("off", "opportunistic", "required"),
			doc: "`opportunistic`: with any certificate where STARTTLS is offered. `required`: with a valid one, or the backend counts as away."},
	}},
	{path: "domain", named: true, doc: "A domain that mail is taken for: `[domain.\"example.com\"]`. Mail for any other is refused as relaying.", keys: []key{
		{name: "backends", must: true, place: func(c *Config, n string) any { return &c.domain(n).Backends }, within: notEmpty,
			doc: "Names of [backend] tables, tried in order."},
		{name: "recipients", place: func(c *Config, n string) any { return &c.domain(n).Recipients },
			doc: "How it is known who exists: `backend` (asked live, and remembered), `file:PATH` (one address a line), or `any` (everybody: guessers cannot be told then)."},
		{name: "max_message_size", place: func(c *Config, n string) any { return &c.domain(n).MaxMessageSize }, within: between(64*KiB, 2*GiB),
			doc: "The largest message for this domain, in place of smtp.max_message_size."},
		{name: "observe", place: func(c *Config, n string) any { return &c.domain(n).Observe },
			doc: "`true`: for its recipients the checks are judged and recorded, and nothing is refused by them, nor put off because the domain is under attack. Who guesses is banned all the same, since the kernel knows no domains. `weir records --would` tells what would have been."},
		{name: "profile", place: func(c *Config, n string) any { return &c.domain(n).Checks.Profile }, within: oneOf("balanced", "strict"),
			doc: "In place of checks.profile."},
		{name: "reject_score", place: func(c *Config, n string) any { return &c.domain(n).Checks.RejectScore }, within: between(1.0, 100.0),
			doc: "In place of checks.reject_score."},
		{name: "set", table: true, element: checkName, place: func(c *Config, n string) any { return &c.domain(n).Checks.Set },
			doc: "Single checks, in place of [checks.set]; what is not named here is as there."},
		{name: "geo.reject", place: func(c *Config, n string) any { return &c.domain(n).Geo.Reject }, within: places,
			doc: "In place of geo.reject."},
		{name: "geo.score", table: true, element: place, place: func(c *Config, n string) any { return &c.domain(n).Geo.Score },
			doc: "In place of geo.score."},
		{name: "greylist.mode", place: func(c *Config, n string) any { return &c.domain(n).Greylist.Mode }, within: greylistMode,
			doc: "In place of greylist.mode."},
		{name: "greylist.delay", place: func(c *Config, n string) any { return &c.domain(n).Greylist.Delay }, within: greylistDelay,
			doc: "In place of greylist.delay."},
		{name: "greylist.window", place: func(c *Config, n string) any { return &c.domain(n).Greylist.Window }, within: greylistWindow,
			doc: "In place of greylist.window."},
		{name: "greylist.pass", place: func(c *Config, n string) any { return &c.domain(n).Greylist.Pass }, within: greylistPass,
			doc: "In place of greylist.pass."},
	}},
	{path: "records", doc: "What is kept of each transaction, for `weir records` and `weir why`.", keys: []key{
		{name: "keep", place: func(c *Config, _ string) any { return &c.Records.Keep }, within: keeps,
			doc: "How long. `forever`: until records.max_size is reached."},
		{name: "max_size", place: func(c *Config, _ string) any { return &c.Records.MaxSize }, within: between(16*MiB, 1024*GiB),
			doc: "How much on disk at the most; the oldest go first."},
	}},
	{path: "metrics", doc: "What monitoring reads.", keys: []key{
		{name: "listen", place: func(c *Config, _ string) any { return &c.Metrics.Listen }, within: emptyOrHostPort,
			doc: "The address and port at which Prometheus gets `/metrics`. Nobody is asked for a password: let only monitoring reach it. Empty: nowhere."},
	}},
	{path: "syslog", named: true, doc: "A collector that is told of every transaction, ban and alarm (RFC 5424). Without any, events go to standard error.", keys: []key{
		{name: "target", must: true, place: func(c *Config, n string) any { return &c.syslog(n).Target }, within: syslogTarget,
			doc: "`tls://host:6514` or `tcp://host:601` (octet counting: RFC 5425, RFC 6587), `udp://host:514` (RFC 5426: nobody hears of what the network loses), or `unix:///dev/log`."},
		{name: "ca", place: func(c *Config, n string) any { return &c.syslog(n).CA }, within: emptyOrAbsolute,
			doc: "A PEM file of the authorities that may vouch for a tls:// target. Empty: those of the system."},
		{name: "facility", place: func(c *Config, n string) any { return &c.syslog(n).Facility }, within: oneOf(facilities...),
			doc: "The syslog facility of the events."},
		{name: "buffer", place: func(c *Config, n string) any { return &c.syslog(n).Buffer }, within: between(1*MiB, 1024*GiB),
			doc: "How much waits on disk at the most while the collector is away; the oldest go first, and that is said. An event has about 450 bytes: 4GiB are a day of 100 a second."},
	}},
	{path: "system", doc: "The machine itself, on the appliance image; elsewhere it has no effect, since the operating system's own files say this. `weir system apply` puts it in force, and takes it back unless it is confirmed.", keys: []key{
		{name: "interfaces", atStart: true, table: true, lines: interfaceAddresses, place: func(c *Config, _ string) any { return &c.System.Interfaces },
			doc: "Addresses by interface, with the length of their network: `{ eth0 = [\"192.0.2.25/24\", \"2001:db8::25/64\"] }`. An empty list, or an interface that is not named, is DHCP and router advertisements."},
		{name: "routes", atStart: true, table: true, lines: routeGateways, place: func(c *Config, _ string) any { return &c.System.Routes },
			doc: "Gateways by destination: `{ default = [\"192.0.2.1\", \"2001:db8::1\"], \"10.0.0.0/8\" = [\"192.0.2.2\"] }`. Each goes out where the gateway's network is."},
		{name: "dns", atStart: true, place: func(c *Config, _ string) any { return &c.System.DNS }, within: resolvers, instead: `"127.0.0.1" or "192.0.2.53:53"`,
			doc: "Servers that the machine's own resolver forwards to. Empty: it asks the authoritative servers itself, which is best: block lists refuse forwarders that many use."},
		{name: "ntp", atStart: true, place: func(c *Config, _ string) any { return &c.System.NTP }, within: timeServers,
			doc: "Time servers. Empty: Debian's pool."},
		{name: "operators", atStart: true, table: true, lines: operatorLogins, place: func(c *Config, _ string) any { return &c.System.Operators },
			doc: "Who may log in: by name, SSH public keys, and for the console the hash of a password as `openssl passwd -6` prints it. Until somebody has a password, the console asks for none."},
	}},
}

// later is every key of the contract that this release does not act on, with
// what it comes with. A * stands for one name; a path stands for all below it.
var later = []struct{ path, with string }{
	{"users.web", "the pages for refused senders"},
	{"smtp.proxy_protocol", "balancers that speak PROXY"},
	{"smtp.relay_networks", "relaying outwards"},
	{"domain.*.contacts", "the pages for refused senders"},
	{"web", "the pages for refused senders"},
}

// The bounds of the greylist: a delay that senders put up with, a window that
// holds their slowest schedules, and a memory longer than a monthly newsletter.
var (
	greylistMode   = oneOf("off", "suspicious", "all")
	greylistDelay  = between(time.Minute, time.Hour)
	greylistWindow = between(2*time.Hour, 14*day)
	greylistPass   = between(day, 366*day)
)

// facilities are the names of RFC 5424 section 6.2.1.
var facilities = []string{
	"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
	"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

// backend returns the entry of that name, made if need be.
func (c *Config) backend(name string) *Backend {
	return entryNamed(&c.Backends, name, func(b *Backend) *string { return &b.Name }, defaultBackend)
}

func (c *Config) domain(name string) *Domain {
	return entryNamed(&c.Domains, name, func(d *Domain) *string { return &d.Name }, defaultDomain)
}

func (c *Config) dnsbl(name string) *DNSBL {
	return entryNamed(&c.DNSBLs, name, func(d *DNSBL) *string { return &d.Name }, defaultDNSBL)
}

func (c *Config) feed(name string) *Feed {
	return entryNamed(&c.Feeds, name, func(f *Feed) *string { return &f.Name }, defaultFeed)
}

func (c *Config) syslog(name string) *Syslog {
	return entryNamed(&c.Syslog, name, func(s *Syslog) *string { return &s.Name }, defaultSyslog)
}

func entryNamed[T any](list *[]T, name string, nameOf func(*T) *string, fresh T) *T {
	for i := range *list {
		if e := &(*list)[i]; *nameOf(e) == name {
			return e
		}
	}
	*nameOf(&fresh) = name
	*list = append(*list, fresh)
	return &(*list)[len(*list)-1]
}

// Keys are the paths of all keys that this release acts on, in the order of
// the manual. NAME stands for the name of an entry.
func Keys() (paths []string) {
	for _, s := range schema {
		for _, k := range s.keys {
			paths = append(paths, s.example(k, nil))
		}
	}
	return paths
}
