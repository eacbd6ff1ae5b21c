package relay

import (
	"testing"

	"mailweir/smtp/reply"
)

// said is a reply as it comes over the wire.
func said(t *testing.T, line string) reply.Reply {
	t.Helper()
	r, err := parse(line + "\r\n")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRecipientAnswers are answers to RCPT of servers of many families, written
// down from their sources and manuals. What must never be an unknown user
// matters most: each of those counts towards a ban (R-BW-15, R-BX-13).
func TestRecipientAnswers(t *testing.T) {
	tests := map[Meaning][]string{
		Taken: {"250 2.1.5 Ok", "251 user not local; will forward", "252 2.1.5 cannot verify"},
		UnknownUser: {
			// A stranger chose the local part, and would choose the meaning.
			`550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient "a\" relay access denied\" b"@example.com not found by SMTP address lookup`,
			`550 5.1.1 "a\\" too many connections"@example.com user unknown`,
			"550 5.1.1 x'greylisted'throttled'y@example.com user unknown",
			"550 5.1.1 <x@example.com>: Recipient address rejected: User unknown in virtual mailbox table",
			"550 5.1.1 <relay@example.com>: Recipient address rejected: User unknown in relay recipient table",
			"550 5.1.1 <spam@example.com>: Recipient address rejected: User unknown in local recipient table",
			"550-5.1.1 The email account that you tried to reach does not exist. Please try\r\n550-5.1.1 double-checking the recipient's email address for typos\r\n550 5.1.1 https://support.google.com/mail/?p=NoSuchUser a1si - gsmtp",
			"550 5.1.1 blocked.user... User unknown",
			"550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
			"550 5.1.1 RESOLVER.ADR.RecipNotFound; not found",
			"550 5.4.1 Recipient address rejected: Access denied. AS(201806281) [DB5EUR03FT012.eop-EUR03.prod.protection.outlook.com]",
			"550 Unknown user",
			"550 No such user here",
			"550 no such recipient",
			"550 Unrouteable address",
			"550 5.1.1 User doesn't exist: x@example.com",
			"550 5.1.1 <x@example.com> User doesn't exist: x@example.com",
			"550 5.1.1 Invalid recipient: <x@example.com>",
			"511 sorry, no mailbox here by that name (#5.1.1 - chkuser)",
			"550 sorry, no mailbox here by that name. (#5.7.17)",
			"550 #5.1.0 Address rejected.",
			"550 5.1.1 Mailbox does not exist",
			"550 Requested action not taken: mailbox unavailable",
			"550 5.5.1 unknown recipient",
			"554 delivery error: dd This user doesn't have a yahoo.com account (x@yahoo.com) [0] - mta1.mail.yahoo.com",
			"553 5.3.0 <x@example.com>... User unknown",
			"550 5.1.1 x@example.com Empfaenger unbekannt",
			"550 Benutzer unbekannt",
			"550 <\"relay access denied spamhaus\"@example.com>: no such user",
			"550 \"greylisted, try later\"@example.com: no such user",
			"550 <blocked-using@spamhaus.example.com> is not a valid mailbox",
			"550 <spamhaus>: no such user",
		},
		Disabled: {
			"550 5.2.1 The email account that you tried to reach is disabled.",
			"550 5.2.1 <x@example.com>: Mailbox disabled, not accepting messages",
			"554 5.7.1 This account has been suspended",
			"550 5.2.1 Mailbox inactive",
		},
		RecipientForNow: {
			"450 4.1.1 <x@example.com>: Recipient address rejected: User unknown in virtual mailbox table",
			"450 4.1.1 <x@example.com>: Recipient address rejected: unverified address: Address verification in progress",
			"452 4.2.2 The email account that you tried to reach is over quota.",
			"552 5.2.2 Mailbox full",
			"450 4.2.0 <x@example.com>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/",
			"550 5.7.1 Greylisted, come back in five minutes",
			"452 4.5.3 Too many recipients",
			"450 4.2.1 mailbox is locked",
		},
		Misconfigured: {
			"554 5.7.1 <x@example.com>: Relay access denied",
			"454 4.7.1 <x@example.com>: Relay access denied",
			"550 relay not permitted",
			"550 5.7.1 Unable to relay",
			"550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain",
			"550 5.7.64 TenantAttribution; Relay Access Denied [X.prod.protection.outlook.com]",
			"553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
			"550 5.7.1 <x@example.com>... Relaying denied",
			"554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
			"550 5.7.606 Access denied, banned sending IP [192.0.2.1]",
			"550 5.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.1]",
			"450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]",
			"550 5.7.23 SPF validation failed",
			"530 5.7.0 Must issue a STARTTLS command first",
			"530 5.7.0 Authentication required",
			"530 5.7.57 Client not authenticated to send mail",
			"550 Sender verify failed",
			"550-Verification failed for <joe@sender.example>\r\n550-Called: 192.0.2.5\r\n550-Response: 550 5.1.1 No such user here\r\n550 Sender verify failed",
			"550 5.1.0 <joe@sender.example>: Sender address rejected: User unknown in virtual mailbox table",
			"550 5.1.8 <joe@sender.example>: Sender address rejected: Domain not found",
			"504 5.5.2 <edge>: Helo command rejected: need fully-qualified hostname",
			"503 5.5.1 Bad sequence of commands",
			"550 5.7.1 Administrative prohibition",
			"550 nope",
			"554 5.7.1 <x@example.com>: Recipient address rejected: Access denied",
			"550 5.1.2 Host unknown",
			"550 Mailbox unavailable: directory service is down",
			"550 undeliverable address: connect to ldap.internal: Connection refused",
			"550 User unknown: lookup failed, try again",
		},
		Throttled: {
			"421 4.7.0 mx.example.com Error: too many connections from 192.0.2.1",
			"451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77714) rate limit",
			"450 4.7.1 Error: too much mail from 192.0.2.1",
			"452 4.3.2 Connection rate limit exceeded.",
		},
		Away: {
			"451 4.3.0 <x@example.com>: Temporary lookup failure",
			"421 4.3.2 Service shutting down",
			"451 Temporary local problem - please try later",
			"452 4.3.1 Insufficient system storage",
			"451 4.3.5 Server configuration error",
			"354 what?",
		},
	}
	for want, lines := range tests {
		for _, line := range lines {
			r := said(t, line)
			if got := MeaningOf(AtRcpt, r); got != want {
				t.Errorf("%s (%s), want %s: %s", got, Classify(r), want, line)
			}
		}
	}
}

// TestNeverCountedWithoutCanary: words that other refusals share need a known
// recipient that is still taken.
func TestNeverCountedWithoutCanary(t *testing.T) {
	for line, needs := range map[string]bool{
		"550 5.1.1 rejected":                                      false,
		"550 User unknown":                                        false,
		"550 5.7.1 <x@example.com>: User unknown":                 false,
		"550 Requested action not taken: mailbox unavailable":     true,
		"550 5.4.1 Recipient address rejected: Access denied.":    true,
		"550 Unrouteable address":                                 true,
		"550 5.7.1 x@example.com does not exist or access denied": true,
	} {
		if got := needsCanary(said(t, line)); got != needs {
			t.Errorf("%s: %v", line, got)
		}
	}
}

// TestOtherStages: the same words elsewhere are never an unknown user, and what
// is about us is never permanent.
func TestOtherStages(t *testing.T) {
	tests := []struct {
		stage Stage
		line  string
		want  Meaning
	}{
		{AtGreeting, "550 5.1.1 User unknown", Misconfigured},
		{AtGreeting, "554 5.7.1 Too many connections from your host", Throttled},
		{AtGreeting, "450 4.7.1 go away for now", Away},
		{AtHello, "550 5.7.1 bad name", Misconfigured},
		{AtMail, "550 5.1.1 User unknown", Misconfigured},
		{AtMail, "454 4.7.1 Relay access denied", Misconfigured},
		{AtMail, "552 5.3.4 too big", MessageRefused},
		{AtMail, "452 4.3.4 message too big for now", Away},
		{AtData, "354 go", Taken},
		{AtData, "554 5.5.1 No valid recipients", Misconfigured},
		{AtBody, "250 2.0.0 ok", Taken},
		{AtBody, "550 5.1.1 User unknown", MessageRefused},
		{AtBody, "554 5.7.1 Virus found", MessageRefused},
		{AtBody, "550 5.7.509 Access denied, sending domain example.org does not pass DMARC verification", Misconfigured},
		{AtBody, "554 5.4.6 Too many hops", Misconfigured},
		{AtBody, "552 5.2.2 Over quota", RecipientForNow},
		{AtBody, "451 4.7.1 Greylisted", Away},
		{AtBody, "554 5.6.0 nothing in particular", MessageRefused},
	}
	for _, c := range tests {
		if got := MeaningOf(c.stage, said(t, c.line)); got != c.want {
			t.Errorf("at %s %s, want %s: %s", c.stage, got, c.want, c.line)
		}
	}
}
