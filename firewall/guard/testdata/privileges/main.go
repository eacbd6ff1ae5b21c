// Command privileges drops them as guard does, with threads about, and then
// shows what the kernel says of every thread. What still works and what no
// longer does is said behind it.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"mailweir/firewall/guard"
)

func main() {
	var release sync.WaitGroup
	release.Add(1)
	for range 4 { // threads that exist before, and sit in system calls
		go func() {
			runtime.LockOSThread()
			release.Wait()
		}()
	}
	if err := guard.DropPrivileges(); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	tasks, _ := filepath.Glob("/proc/self/task/*/status")
	for _, path := range tasks {
		b, _ := os.ReadFile(path)
		for line := range strings.Lines(string(b)) {
			switch name, _, _ := strings.Cut(line, ":"); name {
			case "Uid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs":
				fmt.Print(strings.Join(strings.Fields(line), " "), "\n")
			}
		}
	}
	_, err := os.ReadFile(os.Args[1]) // somebody else's, mode 0600
	fmt.Println("foreign:", err != nil)
	fmt.Println("own:", os.WriteFile(os.Args[2], []byte("x"), 0o600) == nil)
}
