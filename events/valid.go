package events

// maxNesting is how deep encoding/json follows arrays and objects.
const maxNesting = 10000

// validJSON reports what json.Valid does, several times as fast: every reader of the log asks that of every event.
func validJSON(b []byte) bool {
	i := skipSpace(b, 0)
	if i = checkValue(b, i, 0); i < 0 {
		return false
	}
	return skipSpace(b, i) == len(b)
}

// checkValue returns where the value that begins at i ends, -1 where there is none. depth is how many arrays and
// objects it is in.
func checkValue(b []byte, i, depth int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return checkString(b, i+1)
	case '{':
		return checkObject(b, i+1, depth+1)
	case '[':
		return checkArray(b, i+1, depth+1)
	case 't':
		return checkWord(b, i, "true")
	case 'f':
		return checkWord(b, i, "false")
	case 'n':
		return checkWord(b, i, "null")
	}
	return checkNumber(b, i)
}

// checkObject is checkValue for an object, after its brace.
func checkObject(b []byte, i, depth int) int {
	if depth > maxNesting {
		return -1
	}
	i = skipSpace(b, i)
	if i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return -1
		}
		if i = checkString(b, i+1); i < 0 {
			return -1
		}
		if i = skipSpace(b, i); i >= len(b) || b[i] != ':' {
			return -1
		}
		if i = checkValue(b, skipSpace(b, i+1), depth); i < 0 {
			return -1
		}
		if i = skipSpace(b, i); i >= len(b) {
			return -1
		}
		switch b[i] {
		case '}':
			return i + 1
		case ',':
			i = skipSpace(b, i+1)
		default:
			return -1
		}
	}
}

// checkArray is checkValue for an array, after its bracket.
func checkArray(b []byte, i, depth int) int {
	if depth > maxNesting {
		return -1
	}
	i = skipSpace(b, i)
	if i < len(b) && b[i] == ']' {
		return i + 1
	}
	for {
		if i = checkValue(b, i, depth); i < 0 {
			return -1
		}
		if i = skipSpace(b, i); i >= len(b) {
			return -1
		}
		switch b[i] {
		case ']':
			return i + 1
		case ',':
			i = skipSpace(b, i+1)
		default:
			return -1
		}
	}
}

// checkString is checkValue for a string, after its opening quote. Like encoding/json it takes any bytes for text.
func checkString(b []byte, i int) int {
	for i < len(b) {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c < ' ':
			return -1
		case c != '\\':
			i++
			continue
		}
		if i++; i >= len(b) {
			return -1
		}
		switch b[i] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i++
		case 'u':
			for range 4 {
				if i++; i >= len(b) || !isHex(b[i]) {
					return -1
				}
			}
			i++
		default:
			return -1
		}
	}
	return -1
}

func isHex(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// checkNumber is checkValue for a number.
func checkNumber(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
	default:
		if i = checkDigits(b, i); i < 0 {
			return -1
		}
	}
	if i < len(b) && b[i] == '.' {
		if i = checkDigits(b, i+1); i < 0 {
			return -1
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return checkDigits(b, i)
	}
	return i
}

// checkDigits returns where the digits that begin at i end, -1 where there are none.
func checkDigits(b []byte, i int) int {
	begin := i
	for i < len(b) && isDigit(b[i]) {
		i++
	}
	if i == begin {
		return -1
	}
	return i
}

func checkWord(b []byte, i int, word string) int {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}
