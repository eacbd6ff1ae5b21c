package smtp

import "mailweir/smtp/reply"

// observed is what a verdict comes to under the policy. In observe mode the
// verdicts of policy become Log: judged and recorded with what would have
// happened, while the mail goes on. The others stay, since there is nothing
// that could be done instead: reply.Reason.Spared tells them apart.
func (s *session) observed(v Verdict) Verdict {
	if v.Action == "" {
		v.Action = reply.Pass
	}
	return s.told(v, s.policy.Observe)
}

// told is what a verdict comes to where policy only observes.
func (s *session) told(v Verdict, observe bool) Verdict {
	if !observe || v.passes() || !v.Reason.Spared() {
		return v
	}
	s.spare(v.Reason)
	v.Detail = wouldHave(v)
	v.Action = reply.Log
	return v
}

// wouldHave is the detail of a check that only told what it would have done.
func wouldHave(v Verdict) string {
	would := "would " + string(v.Action)
	if v.Detail != "" {
		would += ": " + v.Detail
	}
	return would
}
