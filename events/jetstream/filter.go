package jetstream

import "strings"

// overlap reports whether two of the patterns may match the same subject: the server refuses such filters.
func overlap(patterns []string) bool {
	for i, p := range patterns {
		for _, q := range patterns[:i] {
			if collide(p, q) {
				return true
			}
		}
	}
	return false
}

// collide reports whether some subject matches both patterns.
func collide(p, q string) bool {
	for {
		pt, prest, pmore := strings.Cut(p, ".")
		qt, qrest, qmore := strings.Cut(q, ".")
		if pt == ">" || qt == ">" {
			return true
		}
		if pt != "*" && qt != "*" && pt != qt {
			return false
		}
		if !pmore || !qmore {
			return pmore == qmore
		}
		p, q = prest, qrest
	}
}
