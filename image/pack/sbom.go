package main

import (
	"bufio"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// spdx is a document of SPDX 2.3: every Debian package and every Go module
// that the image is made of.
type spdx struct {
	Version   string        `json:"spdxVersion"`
	License   string        `json:"dataLicense"`
	ID        string        `json:"SPDXID"`
	Name      string        `json:"name"`
	Namespace string        `json:"documentNamespace"`
	Creation  creation      `json:"creationInfo"`
	Packages  []spdxPackage `json:"packages"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID       string `json:"SPDXID"`
	Name     string `json:"name"`
	Version  string `json:"versionInfo"`
	Source   string `json:"sourceInfo,omitempty"`
	Download string `json:"downloadLocation"`
	Refs     []ref  `json:"externalRefs"`
}

type ref struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

func makeSBOM(args []string) error {
	f := flag.NewFlagSet("sbom", flag.ExitOnError)
	version, list := f.String("version", "", ""), f.String("packages", "", "")
	binary, to := f.String("binary", "", ""), f.String("o", "", "")
	f.Parse(args)
	debs, err := debianPackages(*list)
	if err != nil {
		return err
	}
	modules, err := goModules(*binary)
	if err != nil {
		return err
	}
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("read SOURCE_DATE_EPOCH: %w", err)
	}
	all := append(debs, modules...)
	doc := spdx{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: "mailweir-" + *version,
		Namespace: fmt.Sprintf("urn:mailweir:sbom:%s:%x", *version, sha256.Sum256(fmt.Append(nil, all))),
		Creation:  creation{Created: time.Unix(epoch, 0).UTC().Format(time.RFC3339), Creators: []string{"Tool: mailweir image/pack"}},
		Packages:  all,
	}
	text, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(*to, append(text, '\n'), 0o644)
}

// debianPackages reads lines of package, version, architecture, source and its
// version.
func debianPackages(path string) (list []spdxPackage, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		w := strings.Split(sc.Text(), "\t")
		if len(w) != 5 {
			return nil, fmt.Errorf("%s: line %q has not five words", path, sc.Text())
		}
		p := newPackage("deb-", w[0], w[1], fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s", w[0], w[1], w[2]))
		p.Source = "built from Debian source " + w[3] + " " + w[4]
		list = append(list, p)
	}
	return list, nil
}

func goModules(binary string) (list []spdxPackage, err error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("read the modules of %s: %w", binary, err)
	}
	list = append(list, newPackage("go-", "stdlib", info.GoVersion, "pkg:golang/stdlib@"+strings.TrimPrefix(info.GoVersion, "go")))
	for _, m := range info.Deps {
		list = append(list, newPackage("go-", m.Path, m.Version, "pkg:golang/"+m.Path+"@"+m.Version))
	}
	return list, nil
}

var notID = regexp.MustCompile(`[^A-Za-z0-9.-]`)

func newPackage(kind, name, version, purl string) spdxPackage {
	return spdxPackage{
		ID: "SPDXRef-" + kind + notID.ReplaceAllString(name, "-"), Name: name, Version: version, Download: "NOASSERTION",
		Refs: []ref{{"PACKAGE-MANAGER", "purl", purl}},
	}
}
