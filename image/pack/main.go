// Pack does the steps of an image's build that no tool of Debian's does: it
// tells GRUB's first sectors where the rest lies and where in a kernel image
// the kernel is, signs update bundles, and writes the list of parts (SBOM) and
// the OVA. image/disk runs it.
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
)

var steps = map[string]func(args []string) error{
	"key":       makeKey,
	"pub":       publicKey,
	"uuid":      printUUID,
	"roothash":  rootHash,
	"grub":      embedGRUB,
	"grubentry": grubEntry,
	"bundle":    makeBundle,
	"sbom":      makeSBOM,
	"ova":       makeOVA,
}

func main() {
	err := errors.New("usage: pack STEP ...: see image/disk")
	if len(os.Args) > 1 && steps[os.Args[1]] != nil {
		err = steps[os.Args[1]](os.Args[2:])
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "pack: %v\n", err)
		os.Exit(1)
	}
}

// printUUID makes the ids of a version's partitions depend on its name alone
// (in the form of RFC 9562 version 8), so that two builds give the same disk.
func printUUID(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: pack uuid NAME")
	}
	u := sha256.Sum256([]byte(args[0]))
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	fmt.Printf("%x-%x-%x-%x-%x\n", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
	return nil
}
