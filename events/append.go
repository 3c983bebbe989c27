package events

// CheckAppend says why a log must refuse these entries without looking at what it holds; nil where it need
// not. Every Log applies it.
func CheckAppend(entries []Entry) error {
	if len(entries) == 0 || len(entries) > MaxBatch {
		return invalidf("append of %d events: want 1 to %d", len(entries), MaxBatch)
	}
	ids := make(map[string]bool, len(entries))
	guards := make(map[string]bool, len(entries))
	for i, e := range entries {
		if err := e.Event.Validate(); err != nil {
			return err
		}
		if e.Event.ID != "" && ids[e.Event.ID] {
			return invalidf("event ID %q occurs twice in one append", e.Event.ID)
		}
		ids[e.Event.ID] = true
		if e.Expect == nil {
			continue
		}
		if guards[e.Expect.On] {
			return invalidf("guard on %s occurs twice in one append", e.Expect.On)
		}
		guards[e.Expect.On] = true
		for _, earlier := range entries[:i] {
			if earlier.Event.Subject.Key == e.Event.Subject.Key && Matches(e.Expect.On, earlier.Event.Subject.String()) {
				return invalidf("guard on %s comes after %s in the same append: put it on the first", e.Expect.On, earlier.Event.Subject)
			}
		}
	}
	return nil
}
