package rdns

import "strings"

// mailers are registered domains below which there is nothing but hosts that
// send mail for others: newsletters, notifications, filtering in the cloud. Their
// hosts are often named by nothing but their address, and one that is not theirs
// cannot have such a name that resolves back.
var mailers = set(`
	sendgrid.net mcsv.net rsgsv.net mcdlv.net mailchimpapp.net mandrillapp.com amazonses.com sparkpostmail.com postmarkapp.com mtasv.net
	sendinblue.com sender-sib.com brevosend.com mailgun.net mailgun.org mailgun.us mailjet.com elasticemail.com smtp2go.com socketlabs.com
	constantcontact.com ccsend.com exacttarget.com salesforce-mc.com mktomail.com marketo.org hubspotemail.net en25.com
	emarsys.net scarabresearch.com dotdigital-email.com dotmailer.com createsend.com cmail1.com cmail2.com cmail19.com cmail20.com
	responsys.net rsys1.net rsys2.net rsys3.net rsys4.net chtah.net bigfootinteractive.com cheetahmail.com mkt41.net mkt51.net silverpop.com
	listrak.com bronto.com bm23.com vresp.com verticalresponse.com bmsend.com bmetrack.com icpbounce.com aweber.com getresponse.com
	infusionmail.com acems1.com customeriomail.com klaviyomail.com sailthru.com braze.com iterable.com sendpulse.com unisender.com
	moosend.com pepipost.com netcorecloud.net cleverreach.com rapidmail.de inxserver.de episerver.net optivo.net agnitas.de newsletter2go.com
	mailup.net contactlab.com splio.com ccmdcampaigns.net turbo-smtp.com zendesk.com freshemail.com
	messagelabs.com mimecast.com pphosted.com ppe-hosted.com outlook.com mailcontrol.com iphmx.com hornetsecurity.com antispameurope.com
	messagingengine.com zohomail.com pobox.com facebook.com facebookmail.com linkedin.com
`)

// mailer is the registered domain of the name, where it is one of mailers.
func (n name) mailer() string {
	if n.suffix == "" || n.org() < 1 {
		return ""
	}
	if domain := n.labels[n.org()] + "." + strings.Trim(n.suffix, "."); mailers[domain] {
		return domain
	}
	return ""
}
