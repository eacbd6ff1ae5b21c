// Package vm boots the disk of an image in QEMU, through SeaBIOS or OVMF and
// the disk's own boot loader, and talks to it over its two serial lines: the
// console, as an operator has it, and a shell for the test.
//
// The shell is no part of the image. It comes in as every hypervisor may bring
// one: by a system credential (SMBIOS type 11) that adds a unit
// (systemd-debug-generator(8)). Who owns the hypervisor owns the machine.
//
// QEMU is the one of the image's root of tools, and emulates: minutes pass. All
// waiting has an end.
package vm

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Firmware is what starts the boot loader.
type Firmware string

// The two that there are.
const (
	BIOS Firmware = "bios" // SeaBIOS
	UEFI Firmware = "uefi" // OVMF
)

// Options say what the machine is like.
type Options struct {
	Tree      string   // the source tree, with the build's root of tools in .cache/image
	Disk      string   // below .cache/image; it is written to
	Firmware  Firmware // BIOS where none is named
	Memory    int      // MiB; 0 is 512
	Processes int      // virtual processors; 0 is 2
	Namespace string   // path of the network namespace that has Tap; "": ours
	Tap       string   // "": the network card's cable leads nowhere, and DHCP has no answer
	MAC       string
	Seed      string    // content of the credential weir.config
	Watch     io.Writer // gets what the console says, as it comes
	Extra     []string  // more of QEMU's arguments, such as another disk
}

// Machine is one that runs.
type Machine struct {
	Console *Line // ttyS0
	shell   *Line // ttyS1
	ended   chan struct{}
	began   time.Time
	listens bool // somebody answered on shell
	token   atomic.Int64

	mu  sync.Mutex
	cmd *exec.Cmd
	cut bool
}

// testShell is a root shell on the second serial line.
const testShell = `[Unit]
Description=A shell for the test
DefaultDependencies=no
After=local-fs.target systemd-tmpfiles-setup.service
Conflicts=shutdown.target
Before=shutdown.target
[Service]
ExecStart=/bin/sh
Environment=HOME=/run/root TERM=dumb PS1= PS2= PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
TTYReset=yes
Restart=always
RestartSec=0
`

// Start switches a machine on.
func Start(o Options) (*Machine, error) {
	if o.Watch == nil {
		o.Watch = io.Discard
	}
	console, consoleEnd, err := newLine(o.Watch)
	if err != nil {
		return nil, err
	}
	defer consoleEnd.Close()
	shell, shellEnd, err := newLine(io.Discard)
	if err != nil {
		return nil, err
	}
	defer shellEnd.Close()
	cache := filepath.Join(o.Tree, ".cache/image")
	script := `. "$0/image/lib"; tree=$0; enter "$0/.cache/image/tools" "$0" "$@"`
	args := append([]string{"-euc", script, o.Tree}, o.qemu()...)
	command := append([]string{"sh"}, args...)
	if o.Namespace != "" {
		command = append([]string{"nsenter", "--net=" + o.Namespace}, command...)
	}
	m := &Machine{Console: console, shell: shell, ended: make(chan struct{}), began: time.Now()}
	if err := m.powerOn(command, cache, consoleEnd, shellEnd); err != nil {
		return nil, err
	}
	return m, nil
}

// powerOn starts QEMU, and starts it again whenever the machine restarts: a
// restart within an emulator that is short of processors has ended in one of its
// own assertions (iotlb_to_section). It keeps the ends of the serial lines.
func (m *Machine) powerOn(command []string, dir string, ends ...*os.File) error {
	log, err := os.CreateTemp("", "weir-qemu-*.log")
	if err != nil {
		return fmt.Errorf("make a log for QEMU: %w", err)
	}
	defer os.Remove(log.Name())
	var kept []*os.File
	for _, e := range ends {
		fd, err := unix.FcntlInt(e.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("keep a serial line: %w", err)
		}
		kept = append(kept, os.NewFile(uintptr(fd), e.Name()))
	}
	start := func() (*exec.Cmd, error) {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.ExtraFiles, cmd.Dir, cmd.Stdout, cmd.Stderr = kept, dir, log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.cut {
			return nil, errOff
		}
		if err := cmd.Start(); err != nil {
			return nil, fmt.Errorf("start QEMU: %w", err)
		}
		m.cmd = cmd
		return cmd, nil
	}
	began := make(chan error)
	go func() {
		// QEMU ends with the thread that started it, so this one must stay.
		runtime.LockOSThread()
		defer close(m.ended)
		cmd, err := start()
		began <- err
		for err == nil && cmd.Wait() == nil { // its end by itself is a restart, see -no-reboot
			cmd, err = start()
		}
		log.Seek(0, io.SeekStart)
		said, _ := io.ReadAll(log)
		log.Close()
		m.Console.note(string(said))
		for _, e := range kept {
			e.Close()
		}
	}()
	return <-began
}

var errOff = errors.New("the machine was switched off")

// qemu is the command line, as seen inside the root of tools, where .cache/image
// is /w.
func (o Options) qemu() []string {
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	credential := func(name, text string) []string {
		return []string{"-smbios", "type=11,value=io.systemd.credential.binary:" + name + "=" + encode(text)}
	}
	memory, processors := max(o.Memory, 0), max(o.Processes, 0)
	if memory == 0 {
		memory = 512
	}
	if processors == 0 {
		processors = 2
	}
	a := []string{"qemu-system-x86_64", "-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max",
		"-smp", strconv.Itoa(processors), "-m", strconv.Itoa(memory), "-nodefaults", "-no-reboot", "-display", "none", "-vga", "std",
		"-chardev", "socket,id=console,fd=3", "-serial", "chardev:console",
		"-chardev", "socket,id=shell,fd=4", "-serial", "chardev:shell",
		"-drive", "if=virtio,format=qcow2,cache=writeback,discard=unmap,file=/w/" + o.Disk,
		"-device", "virtio-rng-pci"} // no watchdog: an emulator that gets no processor for a minute would be reset
	if o.Firmware == UEFI {
		a = append(a, "-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
			"-drive", "if=pflash,format=raw,file=/w/"+o.Disk+".vars")
	}
	if o.Tap != "" {
		a = append(a, "-netdev", "tap,id=net,script=no,downscript=no,ifname="+o.Tap)
	} else {
		a = append(a, "-netdev", "socket,id=net,udp=127.0.0.1:9,localaddr=127.0.0.1:0")
	}
	device := "virtio-net-pci,netdev=net"
	if o.MAC != "" {
		device += ",mac=" + o.MAC
	}
	a = append(a, "-device", device)
	a = append(a, credential("systemd.extra-unit.image-test.service", testShell)...)
	a = append(a, credential("systemd.unit-dropin.multi-user.target", "[Unit]\nWants=image-test.service\n")...)
	if o.Seed != "" {
		a = append(a, credential("weir.config", o.Seed)...)
	}
	return append(a, o.Extra...)
}

// Age is how long ago the machine was switched on.
func (m *Machine) Age() time.Duration { return time.Since(m.began) }

// Ended is closed when the machine is off.
func (m *Machine) Ended() <-chan struct{} { return m.ended }

// Restarted says that the machine was restarted: its shell is a new one.
func (m *Machine) Restarted() { m.listens = false }

// Cut takes the power away: nothing that was not on the disk is there later.
func (m *Machine) Cut() {
	m.mu.Lock()
	m.cut = true
	unix.Kill(-m.cmd.Process.Pid, unix.SIGKILL)
	m.mu.Unlock()
	<-m.ended
}

// awaitShell asks until there is somebody who answers: what is typed before is
// lost.
func (m *Machine) awaitShell(ctx context.Context) error {
	for !m.listens {
		if _, err := io.WriteString(m.shell, "echo he\"\"re\n"); err != nil {
			return fmt.Errorf("write to the shell: %w", err)
		}
		ask, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := m.shell.Expect(ask, "here\r?\n")
		cancel()
		if m.listens = err == nil; err != nil && ask.Err() == nil || ctx.Err() != nil {
			return fmt.Errorf("wait for the shell: %w", err)
		}
	}
	return nil
}

// Shell runs a command as root inside and returns what it printed. The error
// tells of a status that is not zero.
func (m *Machine) Shell(ctx context.Context, command string) (string, error) {
	if err := m.awaitShell(ctx); err != nil {
		return "", err
	}
	n := m.token.Add(1)
	mark := fmt.Sprintf("end%d-", n)
	// The mark is written in two parts, so that its echo is not taken for it.
	if _, err := io.WriteString(m.shell, fmt.Sprintf("stty -echo 2>/dev/null; { %s\n} 2>&1; echo \"end\"%d-$?-\n", command, n)); err != nil {
		return "", fmt.Errorf("write to the shell: %w", err)
	}
	out, err := m.shell.Expect(ctx, mark+`\d+-`)
	if err != nil {
		return out, fmt.Errorf("%s: %w", command, err)
	}
	at := strings.LastIndex(out, mark)
	text := strings.ReplaceAll(out[:at], "\r", "")
	if i := strings.LastIndex(text, fmt.Sprintf("\"end\"%d-$?-\n", n)); i >= 0 {
		text = text[i+len(fmt.Sprintf("\"end\"%d-$?-\n", n)):]
	}
	text = strings.TrimLeft(text, "\n") // of the line that was typed, where the terminal still echoes its end
	if status := strings.Trim(out[at+len(mark):], "-"); status != "0" {
		return text, fmt.Errorf("%s: status %s: %s", command, status, strings.TrimSpace(text))
	}
	return text, nil
}
