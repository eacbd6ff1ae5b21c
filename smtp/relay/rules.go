package relay

import (
	"regexp"
	"strings"
)

func re(alternatives ...string) *regexp.Regexp {
	return regexp.MustCompile(strings.Join(alternatives, "|"))
}

// The rules in order. A text is in lower case, and "@" stands for the addresses
// in it. They are about what servers say, not about one server's wording: the
// families are Postfix, Exim, sendmail, qmail, Exchange and Exchange Online,
// Google, Yahoo, Dovecot, Domino, OpenSMTPD, Courier, Haraka, Zimbra, Stalwart,
// chasquid, and the large providers' own.
var rules = []rule{
	{class: Greylisted, text: re(`gr[ae]y-?\s?-?list|greylst`)},
	{class: TempLocal, code: "4", text: re(`unverified address: (connect|lost|conversation)|loops back to`)},
	{class: TLSRequiredThere, text: tlsRequired},
	{class: TooManyRcpts, text: tooManyRcpts, but: re(`too many recipients from|(per|an?) (hour|day|minute)|daily|hourly`)},
	{class: RateLimited, text: rateLimited, but: re(`user has too many|too much mail data`)},
	{class: RelayDenied, text: relayDenied, but: re(`spam|blacklist|relay recipient table|relay_recipient`)},
	{class: RelayDenied, enhanced: "X.7.64"},
	{class: RelayDenied, enhanced: "X.7.54"},
	{class: BlocklistedUs, text: blocklist, but: notHost},
	{class: AuthRequired, text: authRequired, but: re(`\bspf\b|\bdkim\b|\bdmarc\b`)},
	{class: AuthRequired, code: "530"},
	{class: OtherClass, text: loops},
	{class: OtherClass, text: badSender, but: re(`\bspf\b|spam|policy|hard fail|blocked|spoof|hijack|black.?list`)},
	{class: Size, text: tooLarge, but: re(`header|quota|mail ?box|mail file|folder`)},
	{class: MailboxFull, text: full, but: re(`sending quota|rate`)},
	{class: MailboxDisabled, text: re(`unavailable: account is (disabled|blocked)`)},
	{class: MailboxDisabled, text: disabled, but: re(clearlyUnknown.String(), `^host|domain`)},
	// Codes of the sender (RFC 3463 3.2) and of the domain are never a user's.
	{class: PolicyContent, enhanced: "X.1.8", text: content},
	{class: OtherClass, enhanced: "X.1.7"},
	{class: OtherClass, enhanced: "X.1.8"},
	{class: OtherClass, enhanced: "X.1.2"},
	{class: UnknownUserClass, text: clearlyUnknown, but: notUnknown},
	{class: UnknownUserClass, code: "5", enhanced: "X.4.1", text: re(`access denied`)}, // Exchange Online's directory-based blocking
	{class: PolicyContent, text: content},
	{class: OtherClass, text: broken},
	{class: TempLocal, code: "4", text: temporary},
	{class: TempLocal, code: "4", enhanced: "X.3.0"},
	{class: UnknownUserClass, code: "5", text: vaguelyUnknown, but: notUnknown},
}

var tlsRequired = re(
	`must issue a starttls|use starttls|starttls (command )?(is )?(required|first)`,
	`(tls|ssl|encryption|encrypted (connection|session|channel))( is| are)? (required|needed|mandatory)`,
	`requires? (tls|ssl|encrypt|a secure)`,
)

var tooManyRcpts = re(
	`too many (recipients|rcpt|receivers)|separate transaction|number of recipients`,
	`(recipients?|rcpts?) (limit|count) (exceeded|reached)|(destination )?domains per transaction|one recipient (at a time|per)`,
)

var rateLimited = re(
	`rate.?limit|limited? (the )?(rate|frequency)|frequency limit|throttl|slow(ing)? down|slower|too fast|unusual rate|(at|with) a rate that`,
	`too many (concurrent |simultaneous |open |smtp )*(connections|sessions)|trop de connexions|concurren(t|cy) (limit|connection|session)|concurrent smtp|connection limit`,
	`too much mail|too many (messages|mails|emails|errors|bad commands)|too many recipients from`,
	`(connection|sending|message|session|thread|relay|hourly|daily) (rate |count )?(limit|quota)s?( is| was| has been)? (exceeded|reached)`,
	`(limit|quota) exceeded for (customer|sender|client|your)|maximum (number of )?(concurrent |inbound )?(server )?(connections|sessions)`,
	`rate (control|for this client)|too quickly|too many tcp connections|connection exceed|too many (unknown|invalid|bad|non-?existent) (users|recipients|addresses)`,
	`exceeded (the |your )?(maximum |allowed )?(rate|sending|connection|hourly|daily)|(excessive|exceeds|exceeding).{0,30}(rate|frequency|connections)`,
	`deferred due to (unexpected volume|user complaints)|(messages|mails|connections) per (second|minute|hour|day)`,
)

var relayDenied = re(
	`relay(ing)? ?(access |mail |attempt )?(is |was |has been )?(denied|not (permitted|allowed|enabled|accepted)|prohibited|refused|rejected|forbidden|disallowed|disabled)`,
	`(unable|not able|cannot|can't|not (allowed|permitted|authori[sz]ed|configured)|refus\w+|do(es)? not( accept)?|won't|denied|no) (to )?(mail )?relay`,
	`not an? open relay|(rejected|denied|no permission|permission).{0,20} relay|we do not relay|relaying mail (to|for)|not (permitted|allowed) to (relay|send (to|through|via|mail through))|not a gateway`,
	`rcpthosts?\b|not (in|one of) (my|our) (list of )?(allowed |accepted |local |hosted )?domains|not a? ?local (domain|host|address)`,
	`(domain|host)( name)? (is )?not (hosted|local|served|handled|accepted|configured|found) (here|on this|by this|at this|for relay)|specified domain is not allowed`,
	`(don't|do not|does not|doesn't) (handle|accept|serve|host|receive|relay|deliver)( mail| email| messages)* (for|to) (that|this|the|your|external|remote|non-local) (recipient )?(domain|host)|we (don't|do not) handle mail for`,
	`recipient domain (is )?not|no such domain (here|at this)|not (a |an )?(hosted|local|authori[sz]ed|recogni[sz]ed|accepted) (mail |recipient |relay )?domain`,
	`tenant ?attribution|(authenticate|authentication|log ?in|pop).{0,20} before (relay|sending)|non-local e?-?mail address`,
)

// loops are mail that comes back.
var loops = re(`too many hops|hop count|mail loop|message is looping`)

// blocklist matches refusals of the address that the connection came from.
var blocklist = re(
	`black.?list|black list|block.?list|deny.?list|\bdnsbl|\bd?rbls?\b|\bdnsrbl|\bbl=|spamhaus|spamcop|sorbs|barracuda(central|networks)|invaluement|hostkarma|uceprotect|abuseat`,
	`\b[cpxs]bl\b|psbl|mailspike|surriel|nixspam|manitu|junkemailfilter|senderscore|talosintel|senderbase|cloudmark|backscatterer|spamrats|truncate\.|sem-black`,
	`blocked (using|by|due to|at|from|for (abuse|spam))|is_blocked|blocked - see|refused - see http`,
	`(your|this|the|sending|client|source|sender'?s?|following) (ip|ipv4|ipv6|ip.address|network|server|mail ?server|host|mta|mta's)( address| range)? .{0,60}(blocked|banned|listed|reject|refus|denied|not (allowed|accepted|welcome)|reputation|blacklisted|spam)`,
	`(client|ip|host)( address)? ?\[?[0-9a-f.:]+\]?.{0,20}(blocked|banned|listed|blacklisted)`,
	`\d+\.\d+\.\d+\.\d+\]?.{0,20}((is|was|has been|currently) )?(listed|blocked|banned|blacklisted|found in)`,
	`(listed|found) (at|in|on|by) [\w.-]*(bl|list|rbl|dnsbl|spam)|listed (at|in|on|by) [\w-]+\.[\w.-]+`,
	`reputation|rejecting open proxy|bad (sender )?ip|banned (sender|ip|host|address)|(sent|mail|messages?|forbidden|accepted|accepting mail) (from|by) (the following|your|this|that) (ip|server|host|network)`,
	`(access|connection)s? (from|by) .{0,60}(banned|blocked|den(y|ied)|refused|reject|not (be )?accepted)|no access from|access from ip`,
	`connections? (will )?not (be )?accepted|not allowed to connect|connection (refused|rejected|denied|blocked)|(you|sender|host|ip) (are|is|has been|have been) (blocked|banned)`,
	`spammer|sending spam|source of spam|smtp server of your (isp|provider)|your (isp|provider)|\bs31[45]0\b|delist|removal from this list|unblock`,
	`dynamic (ip|address|host)|dial-?up|residential|generic (rdns|ptr|reverse)|(is|are|be|an) open (proxy|relay)|\bcdrbl\b|blocked ip`,
)

// notHost matches block lists of domains and senders, which are about the
// message.
var notHost = re(
	`multi\.uribl|\buribl|\bsurbl|\bdbl\b|links? in|\burls?\b.{0,20}(listed|block)|domain (is |was )?(listed|blocklisted|blacklisted|on)`,
	`(sender|from|return|reply)( e?-?mail)?( address| domain)? ?(@ )?((is |has been |was )(in |on )?(my |our |the |a )?(personal )?(black|block|listed|spammer)|(black|block)listed)`,
	`(your|an?) (e-?mail )?address (has been|that has been|is) black|domain listed|without a valid sender`,
	`not listed in|blocked by spamassassin`,
)

var authRequired = re(
	`authentication (is |credentials )?(required|needed|necessary)|auth(entication)? required|authentification requise|must (first )?(be )?(authenticate|log ?in)`,
	`(was|is|are|were|client|sender|user|you) not authenticated|requires? (smtp )?auth|unauthenticated (senders?|users?|clients?|connections?|relay)`,
	`please (log ?in|authenticate)|(need|have) to (authenticate|log ?in)|you don't authenticate|smtp auth|anonymous (mail|users?|clients?|senders?|access)`,
	`authentication (failed|failure|unsuccessful|credentials invalid|turned on)`,
)

// badSender is about the sender, in words that are used for unknown users, too.
var badSender = re(
	`sender (address |domain |e?mail )?(verif|verification|(is )?(not found|unknown|invalid|does not exist|doesn't exist))`,
	`(unknown|invalid|non-?existent|unrout\w+|bad|illegal) (sender|reverse.path|return.path|envelope.from)|verification failed for`,
	`(domain|host|address) of (the )?sender|sender address rejected|sender rejected|sender domain|mail from (domain|address)? ?(does not exist|invalid|not found|unresolvable)`,
	`bounce address|return address|callback|callout`,
)

var tooLarge = re(
	`(message|mail|e-?mail|attachment|body|data|content|file|msg|mensagem|mensaje|nachricht)('s)?( size)?( is| was| are)? (too (big|large|long)|exceed|over|larger|bigger|zu gro)`,
	`(exceed|over|larger|more|greater|bigger).{0,40}(size|bytes|\bmb\b|megabytes)|(size|length) (limit|exceed|restriction|too)|line limit exceeded|taille`,
	`maximum (allowed )?(message |mail |e?mail )?size|(message|maximum|max) size (exceed|limit|for)|too (big|large) (message|mail|for)|sizelimit|oversize`,
)

var full = re(
	`quota|mail ?box.{0,20}(is |was )?full|full mail ?box|mail ?box (size )?(limit|exceed)|mail file size|mailbox_full|full of mail`,
	`(inbox|mailbox|account|folder|maildir|mail ?drop|storage|user).{0,20}(is |over )(full|capacity|limit|its limit|the limit)`,
	`insufficient (storage )?space in (mailbox|the)|(not|doesn't have|does not have) enough (storage|space)|exceeded (his|her|their|its|the)? ?(storage|disk|mail|allocation|allowed)|maximum allowed storage`,
	`out of (mailbox )?(storage|space) for|storage (limit|allocation)|space has been used|user has too many messages|too much mail data`,
	`(account|inbox|mail ?box) full|boite.{0,30}pleine|postfach.{0,20}(voll|überfüllt)|buz[oó]n.{0,20}llen|casella.{0,20}piena|caixa.{0,20}cheia`,
)

// disabled matches mailboxes that exist and take nothing.
var disabled = re(
	`(account|mail ?box|user|recipient|customer|address|compte|konto|cuenta|inbox|boite|postfach).{0,50}(disabled|suspend|deactivat|inactive|not active|locked|discontinued|frozen|is closed|been closed|expired|on hold|terminated|has left|bloqu|gesperrt|deaktiviert|desactivad|désactivé|disabilitat|archiv)`,
	`(account|mail ?box|user|recipient|customer|address).{0,50}(no longer accept|not accept(ing)? (any )?(mail|messages|email))`,
	`(disabled|suspended|inactive|locked|deactivated|expired|frozen|closed|archived) (account|mail ?box|user|recipient|address|e?mail account)|(is currently|has been|temporar(il)?y) (suspended|locked)`,
	`(does not|doesn't|not|no longer) (accept|receiv)\w* (any )?(mail|messages|email)s?( (at|on) this (address|mailbox|account))?$|mail ?box (is )?(blocked|unavailable due)|recipient account is blocked`,
)

// clearlyUnknown says that there is no such mailbox.
var clearlyUnknown = re(
	`(user|recipient|mail ?box|account|address|addressee|person|customer|e-?mail|local.?part|alias|rcpt|destinatario|benutzer|empf[aä]nger|usuario|utente|utilisateur|destinataire|gebruiker)( @| address| name| account| id| alias| email| e-mail|s)*[:;,]?( \S+){0,4} `+
		`(is |was |were |are |ist |est |es |è )?(un ?known|unbekannt|inconnue?|desconocid|sconosciut|desconhecid|onbekend|invalid$|not (found|known|exist|recogni[sz]ed|listed|valid|present|here|on (this|our))|(does|do|did)(n't| not) exist|n'existe|no existe|non esiste|não existe|existiert nicht|bestaat niet|is non-?exist|nicht gefunden|(could not|cannot|can't|couldn't) be found|no longer (exist|on|valid|active|here|with|available|at))`,
	`(un ?known|no such|invalid|non-?existent|not a( known| valid)?|undefined|bad|illegal|nonexistant|unbekannte[rs]?|no) (@ )?(local |virtual |smtp |e?mail |destination |final )?(user|recipient|mail ?box|account|addressee|person|alias|address|local.?part|rcpt|benutzer|empf[aä]nger|customer|e?mail (address|account)|destination mailbox)`,
	`no (such )?(mail ?box|user|recipient|account|person|one|address) (here|by that|with that|of that|at this|named|called|found|exists?|on this|matching)|there is no (such )?(user|mailbox|account|one)|no account`,
	`we (do not|don't) (have|know) (a |an |any |such |this )*(user|mail ?box|recipient|account|person)|(account|mailbox|user|recipient) (not|isn't|is not) (here|available here|local|on this)`,
	`unknown (in|to) (virtual|local|relay|our|the|this)|recipientnotfound|resolver\.adr\.|nosuchuser|undeliverable address|not our (customer|user)|not in (name )?directory|in (the )?name directory`,
	`(user|recipient|one)?( \S+)? ?(doesn't|does not) have (a|an)( \S+)? account|have an? (\S+ )?account here|not (a|an) (known|valid|active|existing) (mail ?box|user|recipient|address|account)`,
	`(user|recipient|address|mailbox) (must have|has) been (deleted|removed)|(has been|was) (deleted|removed) from|inactive email address|recipient no longer|listed as (an )?unknown|user (has )?moved|valid ?rcptto`,
	`(empf(ae|ä)nger|postfach|benutzer|teilnehmer)( @)?( ist)? (unbekannt|existiert nicht|nicht (gefunden|vorhanden))|onbekende gebruiker|nie ma takiego`,
	`(usu[aá]rio|utente|casella|destinat[aá]rio|buz[oó]n|cuenta)( \S+){0,3} (inexistente|inesistente|desconhecid[oa]|n[aã]o existe)`,
	`(пользовател|ящик|адрес|получател)\S*( \S+){0,3} (не найден|не существует)|нет такого (пользователя|ящика|адреса)`,
	`ness?un utente|no existe (dicha|ese|el|la|tal)|kein(e|en)? (solche|gültig)|unknown local|invalid-recipient`,
)

// vaguelyUnknown are words that servers use for unknown users, and for other
// refusals of a recipient: a canary tells which.
var vaguelyUnknown = re(
	`unrout?e?able|undeliverable|do(es)?(n't| not) exist|(was|were) not found|mail ?box (is )?(unavail?able|invalid|not available)|(account|user|recipient) (is )?unavailable|unavailable or access denied`,
	`invalid (mail ?box|rcpt|to:)|address(es)? (is |are |was |were )?(invalid|unknown|rejected)|bad ?rcpt ?to|bad ?recipient ?to|envelope recipient|recipients? (is |was )?(not (local|ok|accepted)|rejected|denied|refused)|rejected recipient|recipient refuses`,
	`can't accept user|no valid recipients?|missing home directory`,
)

// notUnknown is said with the words for unknown users and is none: look-ups that
// failed, and refusals of hosts, domains and senders.
var notUnknown = re(
	`sender|helo|client host|from address|mail from|relay (access|denied|not)|(unknown|no such) (domain|host)|host (unknown|not found)|(domain|host)( name)?( @| \S+){0,6} (does not exist|may not exist|not found|is invalid|is unknown|unknown)`,
	`(lookup|verification|directory|ldap|database|map|server|service|backend).{0,30}(fail|error|timed? ?out|unavailable|is down|refused|unreachable)`,
	`temporar|try again|later|timed? ?out|connection refused|connect to|could not (be )?(verify|verified|check|connect|resolve)|cannot (verify|check|connect)|unable to (verify|check|connect|validate)|internal error`,
	`spam|virus|policy|\bspf\b|openspf|dkim|dmarc|blocked|black.?list|syntax|fully.?qualified|too many|deferred|(ldap|database|lookup|directory) (server |error)`,
)

// content are refusals for what the message is, says, or fails to prove.
var content = re(
	`spam|junk|\bube\b|\buce\b|bulk|mass mail|unsolicited|virus|malware|infected|trojan|phish|spoof|forge|fraud|hijack|abus|violat|inappropriate|offensive|suspicious`,
	`attachment|executable|content|header|from: |rfc ?(28|53)22|rfcmessagenoncompliant|not (rfc|compliant)|8-?bit|base64|mime|charset|language|\burls?\b|uribl|surbl|link`,
	`policy|policies|security|filter|score|signature|captcha|administrative(ly)? (prohib|reject|den)|(permission|service|transaction|access) denied|denied by|banned|prohibited|bl[ou]cked|country|geoip`,
	`\bspf\b|sender policy|\bdkim\b|domainkeys|\bdmarc\b|\barc\b|authentication results|unauthenticated|bounce`,
	`\bptr\b|reverse dns|rdns|forward dns|ip name lookup|cannot find your|unresolvable|unverifiable|mismatches client|host ?name|whitelist|allow ?list`,
	`rejected by|message (was )?(rejected|refused|denied|not accepted)|mail (was )?(rejected|refused)|rejected (for|due|because)|reject(ed)?, id=|not (be )?accepted|not (allowed|permitted|authori[sz]ed) (to send|by)|not passed validation`,
	`members?.only|closed (mailing )?list|not subscribed|multiple addresses|this message is`,
)

// broken are protocol, loops and the DNS.
var broken = re(
	`(bad|improper|wrong|unexpected|invalid|out of) (sequence|order)|out of order|syntax error|unrecogni[sz]ed (command|parameter|option)|command (not |un)(recogni[sz]ed|implemented|known|supported)|unknown command|protocol violation|pipelin`,
	`too many hops|hop count|mail loop|loop(ing|s)? detected|routing loop|dns (error|query|failure)|mailing list expansion|message expired|retry time.?out`,
)

var temporary = re(
	`temporar|try (again |it )?later|later|lookup failure|local (error|problem)|configuration error|internal|timed? ?-?out`,
	`system (storage|resources)|(disk|storage|system) (space|full)|space shortage|insufficient|resources|not available|unavailable|busy|shutting down|overload|load (is )?too high|closing|service`,
)
