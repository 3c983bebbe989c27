package jetstream

import "syscall"

// inMemory reports whether a directory's files are in memory alone.
func inMemory(dir string) bool {
	const tmpfs = 0x01021994
	var stat syscall.Statfs_t
	return syscall.Statfs(dir, &stat) == nil && stat.Type == tmpfs
}
