// Weir is the whole of Mailweir: the roles that run and the commands that
// steer them. Packages of firewall and smtp meet below this folder and nowhere
// else: command has the verbs, guardrole and mailrole what runs.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"mailweir/cmd/appliance/command"
)

//go:generate go run . manual ../../docs

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command.Run(ctx, os.Args)
	stop()
	os.Exit(code)
}
