package guard

import (
	"net/netip"
	"reflect"
	"testing"

	"mailweir/firewall"
	"mailweir/geo"
)

// Whatever changes in the rules reaches the engines: each field does.
func TestEveryChangeOfRulesCounts(t *testing.T) {
	changed := firewall.Rules{
		Interfaces: []string{"eth0"}, Ports: []uint16{25}, Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		World: new(geo.Tables), Deny: []geo.Rule{{Country: "NL"}}, Observe: true, SYNPerMinute: 1, FloodPerSecond: 1, ExplainPerHour: 1,
	}
	for i := range reflect.TypeFor[firewall.Rules]().NumField() {
		var r firewall.Rules
		field := reflect.ValueOf(changed).Field(i)
		if field.IsZero() {
			t.Fatalf("the test does not change %s", reflect.TypeFor[firewall.Rules]().Field(i).Name)
		}
		reflect.ValueOf(&r).Elem().Field(i).Set(field)
		if sameRules(r, firewall.Rules{}) || !sameRules(r, r) {
			t.Errorf("a change of %s is not seen", reflect.TypeFor[firewall.Rules]().Field(i).Name)
		}
	}
}
