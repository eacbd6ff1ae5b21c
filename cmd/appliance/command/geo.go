package command

import (
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/control"
)

func (c *cli) geoCommand() *cobra.Command {
	lookup := &cobra.Command{
		Use:   "lookup ADDR",
		Short: "say where an address is",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := netip.ParseAddr(args[0])
			if err != nil {
				return control.Usagef("%q is no address: write 192.0.2.7 or 2001:db8::7", args[0])
			}
			o, err := mailapi.NewClient(c.runDir).Origin(cmd.Context(), a)
			if err != nil {
				return err
			}
			return c.printOrigin(o)
		},
	}
	return group(&cobra.Command{Use: "geo", Short: "countries and networks of addresses"}, lookup)
}

func (c *cli) printOrigin(o mailapi.Origin) error {
	if c.json {
		return c.printJSON(o)
	}
	unknown := func(s string) string {
		if s == "" {
			return "not known"
		}
		return printable(s)
	}
	network := ""
	if o.ASN != 0 {
		network = fmt.Sprintf("AS%d %s", o.ASN, o.Network)
	}
	c.say("address  %v", o.Address)
	c.say("country  %s", unknown(o.Country))
	c.say("network  %s", unknown(network))
	for _, r := range o.Rules {
		c.say("rule     %s", r)
	}
	for _, s := range o.Sources {
		c.say("source   %s", s)
	}
	return nil
}
