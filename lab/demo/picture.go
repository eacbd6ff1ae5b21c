package main

import (
	"bytes"
	"fmt"
	"html"
	"os"
	"strings"
)

// What a picture of a terminal is made of, in pixels and colours.
const (
	charWidth  = 7.25
	lineHeight = 17
	margin     = 18
	dark       = "#11161d"
)

// picture draws what the demo printed as a terminal window, for the README. It
// begins at the scene of that number: the first one is told in words there.
func picture(path, title string, printed []byte, from int) error {
	_, text, found := strings.Cut(string(printed), fmt.Sprintf("\n%d  ", from))
	if !found {
		return fmt.Errorf("draw the demo: it printed no scene %d", from)
	}
	lines := strings.Split(strings.TrimSpace(fmt.Sprintf("%d  %s", from, text)), "\n")
	columns := 0
	for i, l := range lines {
		lines[i] = strings.ReplaceAll(l, "\t", "    ")
		columns = max(columns, len([]rune(lines[i])))
	}
	var b bytes.Buffer
	width, height := int(float64(columns)*charWidth)+2*margin, (len(lines)+2)*lineHeight+2*margin
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="ui-monospace,Menlo,Consolas,monospace" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" rx="8" fill="%s"/>`+"\n", dark)
	fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#8b949e">%s</text>`+"\n", margin, margin+lineHeight/2, html.EscapeString(title))
	for i, l := range lines {
		if l == "" {
			continue
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s" xml:space="preserve">%s</text>`+"\n",
			margin, margin+(i+2)*lineHeight, colour(l), html.EscapeString(l))
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// colour tells scenes, commands, the client's and the server's lines apart.
func colour(line string) string {
	trimmed := strings.TrimSpace(line)
	switch {
	case line[0] != ' ':
		return "#f0c674" // a scene
	case strings.HasPrefix(trimmed, "$"):
		return "#7ee787"
	case strings.HasPrefix(trimmed, "C:"):
		return "#79c0ff"
	case strings.HasPrefix(trimmed, "S: 5"), strings.HasPrefix(trimmed, "read tcp"):
		return "#ff7b72"
	case strings.HasPrefix(line, "     "):
		return "#c9d1d9"
	}
	return "#ffffff"
}
