//go:build !linux

package jetstream

// inMemory reports whether a directory's files are in memory alone; where we cannot tell, they are not.
func inMemory(string) bool { return false }
