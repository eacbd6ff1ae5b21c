package enginetest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"mailweir/firewall"
)

// holderEnv tells a test binary to be a holder, and of what.
const holderEnv = "MAILWEIR_ENGINETEST_HOLD"

// order is what a holder is to do.
type order struct {
	Engine string
	Dir    string
	Rules  firewall.Rules
	Bans   []firewall.Ban
	Swap   bool // go on, as swapOn does
}

// nsFD is the descriptor of the namespace in a holder.
const nsFD = 3

// Main runs the tests, or is the process that a test has started to kill.
func Main(m *testing.M, engines ...Engine) {
	text, asked := os.LookupEnv(holderEnv)
	if !asked {
		os.Exit(m.Run())
	}
	if err := holdOn(text, engines); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// holdOn carries out an order, says so, and waits to be killed.
func holdOn(text string, engines []Engine) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := netns.Set(netns.NsHandle(nsFD)); err != nil {
		return err
	}
	for _, e := range engines {
		if e.Name == o.Engine {
			return o.carryOut(e)
		}
	}
	return fmt.Errorf("no engine %q", o.Engine)
}

func (o order) carryOut(e Engine) error {
	if o.Swap {
		return o.swapOn(e)
	}
	table, err := e.Open(o.Dir, 0)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := table.Configure(ctx, o.Rules); err != nil {
		return err
	}
	if err := table.Apply(ctx, o.Bans, nil); err != nil {
		return err
	}
	fmt.Println("holding")
	_, err = os.Stdin.Read(make([]byte, 1)) // the test's end of the pipe ends with the test
	return err
}

type holder struct {
	b   *bench
	cmd *exec.Cmd
}

// hold starts a process that holds the engine with bans.
func (b *bench) hold(list []firewall.Ban) *holder { return b.start(list, false) }

// swap starts one that takes over and fills anew until it is killed.
func (b *bench) swap(list []firewall.Ban) *holder { return b.start(list, true) }

func (b *bench) start(list []firewall.Ban, swap bool) *holder {
	b.t.Helper()
	text, err := json.Marshal(order{Engine: b.engine.Name, Dir: b.dir, Rules: b.rules, Bans: list, Swap: swap})
	b.must("write an order", err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderEnv+"="+string(text))
	ns, err := unix.Dup(int(b.Server))
	b.must("pass the namespace on", err)
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(ns), "namespace")}
	defer cmd.ExtraFiles[0].Close()
	_, err = cmd.StdinPipe()
	b.must("make a pipe", err)
	out, err := cmd.StdoutPipe()
	b.must("make a pipe", err)
	b.must("start a holder", cmd.Start())
	h := &holder{b, cmd}
	b.t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line != "holding\n" {
		b.t.Fatalf("the holder says %q", line)
	}
	return h
}

// kill is kill -9; it returns when the process is gone.
func (h *holder) kill() {
	h.b.t.Helper()
	h.b.must("kill", h.cmd.Process.Kill())
	_ = h.cmd.Wait()
}
