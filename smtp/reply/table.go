package reply

// Row is one line of the table: all there is to say about one Reason. The
// manual's chapter on refusals is printed from these rows.
type Row struct {
	Check  string // name of the check, as in the record's checks and in [checks.set]
	Reason Reason
	Alias  string // code of spamdyke, whose users know these words; "" where it has none
	Action Action // default
	Reply  Reply  // default; a backend's own answer takes its place where the text says so
	Help   string // one sentence for the operator

	// Of a check that [checks.set] can set, what is done by profile; both zero
	// for any other.
	Settable         bool
	Balanced, Strict Setting
}

// Table returns all rows in the order in which a session can meet them.
func Table() []Row { return append([]Row(nil), table...) }

// Of returns the row of a reason. A reason without a row is our own fault, and
// a sender never pays for that: the row is that of Internal.
func Of(r Reason) Row {
	if i, ok := index[r]; ok {
		return table[i]
	}
	return table[index[Internal]]
}

// Spared says whether observe mode only records r. Everything else stays
// refused there, because nothing could be done with it instead: no backend
// would take it, or it protects this machine.
func (r Reason) Spared() bool {
	if i, ok := index[r]; ok && table[i].Settable {
		return true
	}
	switch r {
	case Banned, Feed, Blocked, BlockedName, BlockedSender, BlockedRecipient, HeldRecipient, Concurrency, Rate, Harvest, Persistence, Complaint, RelayProbe, TooManyUnknown, UnderAttack, Greylisted:
		return true
	}
	return false
}

// Reply returns the table's reply for r.
func (r Reason) Reply() Reply { return Of(r).Reply }

// Alias returns the catalogue's code for r, such as DENIED_RELAYING, or "".
func (r Reason) Alias() string {
	if i, ok := index[r]; ok {
		return table[i].Alias
	}
	return ""
}

var index = func() map[Reason]int {
	m := make(map[Reason]int, len(table))
	for i, row := range table {
		m[row.Reason] = i
	}
	return m
}()

func say(code, class, subject, detail int, text string) Reply {
	return Reply{Code: code, Enhanced: Enhanced{class, subject, detail}, Text: text}
}

// The codes follow RFC 5321 section 4.2 and RFC 3463, with 5.6.7 of RFC 6531.
// A 421 always ends the connection (RFC 5321 section 3.8).
var table = []Row{
	fixed("ban", Banned, "DENIED_BLACKLIST_IP", Drop, say(554, 5, 7, 1, "Your address is banned for what it sent"),
		"The source stands banned and the kernel let it through, or explain_per_hour allows it to hear why; weir why has the evidence."),
	fixed("lists", Blocked, "DENIED_BLACKLIST_IP", Reject, say(554, 5, 7, 1, "Your address is blocked here"),
		"weir block has the client's address; said in place of the greeting where it holds for all recipients and no entry lets in by a name. weir lists has who wrote it, and why."),
	fixed("lists", BlockedName, "DENIED_BLACKLIST_NAME", Reject, say(554, 5, 7, 1, "Your host is blocked here by its name"),
		"weir block has the confirmed name of the client's address, or what it says in HELO."),
	fixed("lists", BlockedSender, "DENIED_SENDER_BLACKLISTED", Reject, say(550, 5, 7, 1, "The sender is blocked here"),
		"weir block has the sender or its domain."),
	fixed("lists", BlockedRecipient, "DENIED_RECIPIENT_BLACKLISTED", Reject, say(550, 5, 2, 1, "The recipient takes no mail"),
		"weir block has the recipient or its domain; it stands there until it is removed."),
	fixed("lists", HeldRecipient, "DENIED_RECIPIENT_BLACKLISTED", Defer, say(450, 4, 2, 1, "The recipient takes no mail for now, try again later"),
		"weir block has the recipient or its domain, for a while (--for)."),
	fixed("concurrency", Concurrency, "", Defer, say(421, 4, 7, 0, "Too many open connections from your network, close some first"),
		"smtp.per_source.open was reached; the sender comes again by itself."),
	fixed("rate", Rate, "", Defer, say(421, 4, 7, 0, "Too many new connections from your network, try again in a minute"),
		"smtp.per_source.new_per_minute was reached; the sender comes again by itself."),
	fixed("overload", Overload, "", Defer, say(421, 4, 7, 0, "Too busy, try again later"),
		"smtp.max_connections was reached; or nearly, and a stranger kept us waiting for ten seconds."),
	fixed("shutdown", Shutdown, "", Defer, say(421, 4, 3, 2, "Service is stopping, try again in a minute"),
		"Mailweir was stopped or restarted while the client was connected."),
	fixed("maintenance", Maintenance, "DENIED_REJECT_ALL", Defer, say(421, 4, 3, 2, "Closed for maintenance, try again later"),
		"The operator closed the door for a while."),
	fixed("timeout", Timeout, "TIMEOUT", Defer, say(421, 4, 4, 2, "Timeout, closing the connection"),
		"The client was silent, or slower than smtp.timeouts allow."),
	fixed("session", TooLong, "TIMEOUT", Defer, say(421, 4, 4, 2, "Session lasts too long, connect again"),
		"smtp.timeouts.session was reached; the sender comes again by itself."),
	fixed("errors", TooManyErrors, "", Defer, say(421, 4, 7, 0, "Too many errors"),
		"The client made more than ten errors in one session, or a hundred commands that bring no mail on: it was closed."),
	fixed("not_smtp", NotSMTP, "", Reject, say(521, 5, 5, 1, "This is a mail server, and that was not SMTP"),
		"The client spoke HTTP or sent message headers as commands."),
	fixed("feed", Feed, "DENIED_BLACKLIST_IP", Drop, say(554, 5, 7, 1, "Your address is blocked here"),
		"A [feed] with action = \"ban\" has the client's address, and it spoke: a ban, and nothing is said. With action = \"reject\" it is blocked, see lists."),
	judged(History, "", weighed, weighed, say(554, 5, 7, 1, "Too much of what your address sent before was refused"),
		"What is remembered of the source: up to 4 for unknown recipients and bans, down to -4 for mail that was accepted on several days."),
	judged(EarlyTalk, "DENIED_EARLYTALKER", Add(4), refuse, say(554, 5, 5, 0, "Wait for the greeting before you speak (RFC 5321 section 3.1)"),
		"The client spoke before our greeting. Set to reject, it is answered so in place of the greeting."),
	judged(Pipelining, "DENIED_EARLYTALKER", Add(4), refuse, say(554, 5, 5, 0, "Wait for our answer before you go on (RFC 2920 section 3.1)"),
		"The client sent commands ahead where it may not: with HELO, or behind the last command of a group."),
	judged(BareLineEnds, "DENIED_EARLYTALKER", LogOnly, LogOnly, say(554, 5, 5, 0, "Lines end in CR LF (RFC 5321 section 2.3.8)"),
		"The client ended lines with LF or CR alone: they are mended; set to reject, the line or the message is refused."),
	judged(CommandOrder, "DENIED_EARLYTALKER", LogOnly, LogOnly, say(554, 5, 5, 0, "Commands came out of order (RFC 5321 section 4.1.4)"),
		"The client sent a command before its turn, which is answered with 503 in any case."),
	judged(Geo, "DENIED_ACCESS_DENIED", weighed, weighed, say(554, 5, 7, 1, "Mail from your country or network is not taken here"),
		"geo.reject names the client's country or network; geo.score adds to the score; geo.ban bans at the first connection, and then nothing is said."),
	judged(RDNSMissing, "DENIED_RDNS_MISSING", refuse, refuse, say(550, 5, 7, 25, "Your address has no name: ask your provider for a PTR record"),
		"The client's address has no PTR record."),
	judged(RDNSError, "DENIED_RDNS_MISSING", later, later, say(451, 4, 7, 25, "The name of your address cannot be looked up right now, try again later"),
		"The servers of the address's reverse zone fail, while our resolver is well."),
	judged(RDNSMismatch, "DENIED_RDNS_RESOLVE", Add(2), refuse, say(550, 5, 7, 25, "The name of your address does not resolve back to it"),
		"None of the names of the client's address resolves to that address."),
	judged(RDNSGeneric, "DENIED_IP_IN_RDNS", Add(2), refuse, say(550, 5, 7, 25, "The name of your address is one that a provider gives to every customer (RFC 5321 section 4.1.4): give your mail server a name of its own"),
		"The name has the address in it, or a provider's pattern; the record has the pattern that matched."),
	judged(RDNSGenericCC, "DENIED_IP_IN_CC_RDNS", Add(2), refuse, say(550, 5, 7, 25, "The name of your address is one that a provider gives to every customer: give your mail server a name of its own"),
		"As rdns_generic, below the domain of a country."),
	judged(RDNSDynamic, "DYNAMIC_HOST", Add(3), refuse, say(550, 5, 7, 25, "The name of your address is that of a dial-up line: send through your provider's mail server"),
		"The name says dynamic, pool or dialup."),
	judged(DNSBL, "DENIED_RBL_MATCH", weighed, refuse, say(554, 5, 7, 1, "Your address is on a block list"),
		"A list of [dnsbl] has the client's address. The score is the list's own; a number set here takes its place."),
	judged(RHSBL, "DENIED_RHSBL_MATCH", weighed, refuse, say(554, 5, 7, 1, "Your domain is on a block list"),
		"A domain list of [dnsbl] has the sender's domain, the HELO name or the name of the address."),
	judged(HELOOurs, "", Add(8), refuse, say(550, 5, 7, 1, "You call yourself by a name of ours in HELO"),
		"The client says our own host name or address, or a domain that we serve, in HELO."),
	judged(HELOAddress, "", Add(3), refuse, say(550, 5, 7, 1, "Say your host name in HELO, or your address in brackets (RFC 5321 section 4.1.3)"),
		"The argument of HELO is an address without brackets."),
	judged(HELOLiteral, "", Add(3), refuse, say(550, 5, 7, 1, "The address that you say in HELO is not yours"),
		"The address literal in HELO is not the client's address."),
	judged(HELOUnresolvable, "", Add(1), refuse, say(550, 5, 7, 1, "The name that you say in HELO does not exist"),
		"The name in HELO has no address, or no dot."),
	judged(TLSRequired, "FAILED_TLS", Off, Off, say(530, 5, 7, 10, "Use STARTTLS first"),
		"The client sends in clear. A server for everybody must not want TLS (RFC 3207 section 4), so this is off: set it for domains to which partners only write."),
	judged(Score, "", refuse, refuse, say(554, 5, 7, 1, "Refused for several reasons together"),
		"No check refuses by itself, but their scores come to checks.reject_score."),
	fixed("syntax", Syntax, "", Reject, say(501, 5, 5, 2, "Syntax error"),
		"The line is no SMTP command, or its argument is wrong."),
	fixed("line_too_long", LineTooLong, "", Reject, say(500, 5, 5, 2, "Line too long"),
		"A command line was longer than 2048 bytes; or, answered with 554 5.6.0, a line of a message longer than 65,536."),
	fixed("unknown_command", UnknownCommand, "", Reject, say(502, 5, 5, 1, "Command not implemented"),
		"The client sent a command that is not served here."),
	fixed("order", Order, "", Reject, say(503, 5, 5, 1, "Command out of order"),
		"The client sent a command before its turn (RFC 5321 section 4.1.4)."),
	fixed("helo", HELOSyntax, "", Reject, say(501, 5, 5, 2, "Say HELO or EHLO with your host name or address literal"),
		"HELO or EHLO came without a name, or with one that is no printable ASCII. Any other is taken, and judged by the helo_ checks (RFC 5321 section 4.1.4)."),
	fixed("auth", Auth, "UNKNOWN_AUTH", Reject, say(504, 5, 5, 4, "Authentication is not offered here; supported mechanisms: none"),
		"The client tried to log in; this is no submission server."),
	fixed("auth", AuthFailed, "FAILED_AUTH", Reject, say(535, 5, 7, 8, "Authentication failed"),
		"The client sent a password with AUTH: it hears what every wrong guess hears, and too many errors end its session."),
	fixed("tls", TLSFailed, "FAILED_TLS", Log, say(454, 4, 7, 0, "TLS handshake failed"),
		"The handshake after STARTTLS failed and the connection was closed; the client may come again in clear."),
	fixed("sender", SenderSyntax, "", Reject, say(501, 5, 1, 7, "Bad sender address syntax"),
		"The argument of MAIL FROM is no RFC 5321 path."),
	judged(SenderNXDomain, "DENIED_SENDER_NO_MX", refuse, refuse, say(550, 5, 1, 8, "The sender's domain does not exist, or nothing can be sent back to it"),
		"The domain of MAIL FROM does not exist, or has neither MX nor address."),
	judged(SenderNullMX, "DENIED_SENDER_NO_MX", refuse, refuse, say(550, 5, 7, 27, "The sender's domain says that it takes no mail (RFC 7505)"),
		"The domain of MAIL FROM has a null MX: it never sends."),
	judged(SenderNoMX, "DENIED_SENDER_NO_MX", Off, refuse, say(550, 5, 1, 8, "The sender's domain has no MX record"),
		"The domain of MAIL FROM has an address and no MX, which RFC 5321 section 5.1 allows. Where it is refused, it is put off (451 4.1.8) for the first ten minutes."),
	judged(SenderDomainError, "DENIED_SENDER_NO_MX", later, later, say(451, 4, 4, 3, "The sender's domain cannot be looked up right now, try again later"),
		"The name servers of the domain of MAIL FROM fail, while our resolver is well."),
	judged(SenderIsRecipient, "DENIED_IDENTICAL_SENDER_RECIPIENT", Add(3), refuse, say(550, 5, 7, 1, "Sender and recipient are the same"),
		"Somebody from outside writes to a mailbox in its own name."),
	judged(SenderLocal, "DENIED_AUTH_REQUIRED", Add(2), refuse, say(530, 5, 7, 0, "Authentication required: mail of this domain is sent by its own servers, submit it there"),
		"The domain of MAIL FROM is served here, and its SPF does not name the client; nobody can log in here."),
	judged(SPFFail, "", Add(4), refuse, say(550, 5, 7, 23, "The sender's domain says that you may not send for it (SPF)"),
		"SPF says fail (RFC 7208 section 8.4)."),
	judged(SPFSoftfail, "", Add(1), Add(1), say(550, 5, 7, 23, "The sender's domain doubts that you may send for it (SPF)"),
		"SPF says softfail: the domain does not name the client, and is not sure."),
	judged(SPFTemperror, "", LogOnly, later, say(451, 4, 7, 24, "The SPF record of the sender's domain cannot be looked up right now, try again later"),
		"SPF could not be evaluated for now (RFC 7208 section 8.6)."),
	judged(SPFPermerror, "", LogOnly, LogOnly, say(550, 5, 7, 24, "The SPF record of the sender's domain is broken"),
		"The SPF record cannot be read, or takes too many look-ups (RFC 7208 section 8.7)."),
	judged(DKIMFail, "", LogOnly, LogOnly, say(550, 5, 7, 20, "No DKIM signature of the message is valid"),
		"The message is signed, and no signature holds: lists and scanners on the way break them, so that RFC 6376 section 6.3 asks to take it as unsigned."),
	judged(DMARCReject, "", Add(4), refuse, say(550, 5, 7, 26, "The domain of the From field wants mail refused that neither SPF nor DKIM vouches for (DMARC)"),
		"DMARC fails and the author's domain has p=reject (RFC 7489). Mailing lists fail so too; with SPF failing besides, the scores come to a refusal."),
	judged(DMARCQuarantine, "", Add(2), Add(2), say(550, 5, 7, 26, "Neither SPF nor DKIM vouches for the domain of the From field (DMARC)"),
		"DMARC fails and the author's domain has p=quarantine, or p=reject for a share of its mail."),
	judged(DMARCTemperror, "", LogOnly, later, say(451, 4, 7, 26, "DMARC cannot be evaluated right now, try again later"),
		"The name servers of the author's domain, or of a signer's, fail, while our resolver is well."),
	judged(NoAuthor, "", LogOnly, refuse, say(550, 5, 7, 26, "The message needs one From field with one author's domain (RFC 5322 section 3.6.2)"),
		"The message has no From field, several, or one with several domains: nobody can say whom DMARC is about."),
	fixed("recipient", RecipientSyntax, "", Reject, say(501, 5, 1, 3, "Bad recipient address syntax"),
		"The argument of RCPT TO is no RFC 5321 path."),
	fixed("recipient", UnqualifiedRecipient, "DENIED_UNQUALIFIED_RECIPIENT", Reject, say(550, 5, 1, 3, "Recipient address needs a domain"),
		"The recipient has no domain; only postmaster may do without."),
	fixed("utf8", UTF8, "", Reject, say(553, 5, 6, 7, "Internationalised addresses cannot be used here"),
		"The address needs SMTPUTF8, and the client did not say it or the route cannot carry it."),
	fixed("relaying", Relaying, "DENIED_RELAYING", Reject, say(554, 5, 7, 1, "Relaying refused: we do not take mail for that domain"),
		"The recipient's domain has no route here, or its local part names another hop (victim%other@here); refused in observe mode too."),
	fixed("oracle", UnknownUser, "", Reject, say(550, 5, 1, 1, "Recipient unknown"),
		"The backend, or the recipients file, does not know the recipient; refused in observe mode too."),
	fixed("harvest", Harvest, "", Drop, say(550, 5, 1, 1, "Recipient unknown"),
		"The recipient that completed a conviction for guessing addresses; the kernel drops the source from here on."),
	fixed("trap", Trap, "", Drop, say(550, 5, 1, 1, "Recipient unknown"),
		"The recipient is a spamtrap (harvest.traps): the answer is that of an unknown user, and the source may be banned."),
	fixed("persistence", Persistence, "", Drop, say(550, 5, 7, 1, "Refused"),
		"The source was refused for other reasons and went on: 30 refused recipients or 10 refused sessions in an hour."),
	fixed("complaint", Complaint, "", Drop, say(554, 5, 7, 1, "Refused"),
		"Recipients proved that they got unwanted mail from the source: by weir complain, or in reports to harvest.complaint_mailbox."),
	fixed("relay_probe", RelayProbe, "", Drop, say(554, 5, 7, 1, "Relaying refused: we do not take mail for that domain"),
		"The source tried foreign domains of five owners in an hour: it looks for an open relay."),
	fixed("harvest", TooManyUnknown, "", Defer, say(421, 4, 7, 0, "Too many unknown recipients in one session"),
		"Most recipients of the session do not exist: it is closed, and three of those in a day are a conviction."),
	fixed("harvest", UnderAttack, "", Defer, say(451, 4, 7, 1, "Try again later"),
		"The domain is being guessed at: for a while strangers are not told which recipients exist; mail servers come again."),
	fixed("recipients", TooManyRecipients, "DENIED_TOO_MANY_RECIPIENTS", Defer, say(452, 4, 5, 3, "Too many recipients, send this one again in the next transaction"),
		"smtp.max_recipients was reached; the earlier recipients get the message."),
	fixed("recipients", OtherRoute, "", Defer, say(452, 4, 5, 3, "This recipient needs a transaction of its own, send it again"),
		"Recipients of different backends never share a transaction, so that one backend's answer can be ours."),
	fixed("recipients", BounceRecipients, "", Defer, say(452, 4, 5, 3, "The null sender has one recipient a transaction, send it again"),
		"A notification goes to one mailbox; several with MAIL FROM:<> are how addresses are guessed."),
	fixed("oracle", OracleAway, "", Defer, say(451, 4, 4, 3, "Recipient cannot be verified right now, try again later"),
		"The backend that knows the recipients does not answer."),
	fixed("oracle", RecipientForNow, "", Defer, say(450, 4, 2, 1, "Recipient takes no mail right now, try again later"),
		"The backend refuses this recipient for the time being; its own code is passed on."),
	fixed("oracle", MailboxDisabled, "", Reject, say(550, 5, 2, 1, "Mailbox is disabled"),
		"The backend knows the recipient and takes no mail for it; counts nothing."),
	fixed("greylist", Greylisted, "DENIED_GRAYLISTED", Defer, say(451, 4, 7, 1, "Greylisted on first contact, mail servers come again by themselves"),
		"The first mail of a stranger (see [greylist]): the reply says how long it has to wait, an early retry does not begin the wait anew, and who has passed is remembered."),
	fixed("no_recipients", NoRecipients, "DENIED_ZERO_RECIPIENTS", Reject, say(554, 5, 5, 1, "No valid recipients"),
		"DATA or BDAT after every recipient was refused."),
	fixed("size", Size, "", Reject, say(552, 5, 3, 4, "Message too big"),
		"smtp.max_message_size, or the route's own limit."),
	fixed("line_ends", LineEnds, "", Reject, say(554, 5, 6, 0, "Bare CR or LF in a BDAT chunk (RFC 3030 section 3)"),
		"A chunk that is not text with CRLF line ends cannot be mended without changing it."),
	fixed("loop", Loop, "", Reject, say(554, 5, 4, 6, "Mail loop: too many Received headers"),
		"The message carries 50 Received headers or more."),
	fixed("disk", DiskFull, "", Defer, say(452, 4, 3, 1, "Out of disk space, try again later"),
		"The message could not be held; free space under state_dir."),
	fixed("backend", BackendAway, "", Defer, say(451, 4, 4, 1, "The mail server behind us does not answer, try again later"),
		"The backend was unreachable, slow, or failed for the time being."),
	fixed("backend", BackendThrottled, "", Defer, say(451, 4, 4, 5, "The mail server behind us is busy, try again later"),
		"The backend limits how fast it takes mail from us."),
	fixed("backend", MisconfiguredBackend, "", Defer, say(451, 4, 3, 5, "The mail server behind us is misconfigured, try again later"),
		"The backend refuses us or our domain, not the message: see weir status."),
	fixed("backend", RecipientChanged, "", Defer, say(451, 4, 1, 1, "A recipient is no longer taken, send again to hear which"),
		"The backend took a recipient at RCPT and refused it at delivery; the retry hears the truth."),
	fixed("backend", MessageRefused, "", Reject, say(554, 5, 6, 0, "The mail server behind us refused the message"),
		"The backend refused the message after its data; its own code is passed on."),
	fixed("complaint", NotAReport, "", Reject, say(554, 5, 6, 1, "Only feedback reports (RFC 5965) are read at this address, write to postmaster instead"),
		"A message to harvest.complaint_mailbox that is no report, and no backend has such a mailbox: nobody would see it."),
	fixed("internal", Internal, "DENIED_OTHER", Defer, say(451, 4, 3, 0, "Internal error on our side, try again later"),
		"A fault of ours: the log has the cause under the ref, please report it."),
}
