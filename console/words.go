package console

import (
	"errors"
	"strings"
	"unicode"
)

// Words splits a line at blanks. Quotes of either kind keep blanks, and between
// double ones, or outside of any, a backslash keeps what follows it; nothing
// else has a meaning. Control characters are an error: nobody types them, but a
// paste may bring them.
func Words(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	quote, inside, escaped := rune(0), false, false
	for _, r := range line {
		switch {
		case unicode.IsControl(r) && r != '\t':
			return nil, errors.New("there is a control character in that line: type it again")
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inside = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, inside = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			if inside {
				words = append(words, word.String())
			}
			word.Reset()
			inside = false
		default:
			word.WriteRune(r)
			inside = true
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("a quote is not closed in that line")
	}
	if inside {
		words = append(words, word.String())
	}
	return words, nil
}
