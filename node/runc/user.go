package runc

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// User is who a container's process is.
type User struct {
	UID, GID uint32
	Groups   []uint32 // additional ones
	Name     string   // from the image's /etc/passwd, empty where it is not listed
	Home     string
}

// ResolveUser looks a user up the way an image's configuration names it ("", "app", "1000", "app:staff",
// "1000:1000") in the /etc/passwd and /etc/group of the image's layers (lowest first). A number need not be
// listed; a name must be. The additional groups are those that /etc/group lists the user in, unless a group was
// named.
func ResolveUser(layers []string, user string) (User, error) {
	name, group, hasGroup := strings.Cut(user, ":")
	if name == "" {
		name = "0"
	}
	u := User{}
	found := false
	number, numeric := parseID(name)
	err := eachLine(layers, "/etc/passwd", func(f []string) bool {
		if len(f) < 4 || (f[0] != name && !(numeric && f[2] == name)) {
			return false
		}
		uid, ok1 := parseID(f[2])
		gid, ok2 := parseID(f[3])
		if !ok1 || !ok2 {
			return false
		}
		u.UID, u.GID, u.Name, found = uid, gid, f[0], true
		if len(f) > 5 {
			u.Home = f[5]
		}
		return true
	})
	if err != nil {
		return u, fmt.Errorf("user %q: %w", user, err)
	}
	if !found {
		if !numeric {
			return u, fmt.Errorf("user %q: not in the image's /etc/passwd: name a number instead (runAsUser)", user)
		}
		u.UID = number
	}
	if hasGroup && group != "" {
		err := u.resolveGroup(layers, user, group)
		return u, err
	}
	err = eachLine(layers, "/etc/group", func(f []string) bool {
		if len(f) < 4 || u.Name == "" {
			return false
		}
		if gid, ok := parseID(f[2]); ok && gid != u.GID && slices.Contains(strings.Split(f[3], ","), u.Name) {
			u.Groups = append(u.Groups, gid)
		}
		return false
	})
	if err != nil {
		return u, fmt.Errorf("user %q: %w", user, err)
	}
	return u, nil
}

func (u *User) resolveGroup(layers []string, user, group string) error {
	if gid, ok := parseID(group); ok {
		u.GID = gid
		return nil
	}
	found := false
	err := eachLine(layers, "/etc/group", func(f []string) bool {
		if len(f) < 3 || f[0] != group {
			return false
		}
		u.GID, found = parseID(f[2])
		return found
	})
	if err != nil {
		return fmt.Errorf("user %q: %w", user, err)
	}
	if !found {
		return fmt.Errorf("user %q: group %q is not in the image's /etc/group", user, group)
	}
	return nil
}

func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return uint32(n), err == nil
}

// eachLine calls f with the fields of each line of an image's file until it returns true. No such file is no
// lines.
func eachLine(layers []string, path string, f func(fields []string) bool) error {
	file, err := openInLayers(layers, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	sc := bufio.NewScanner(file)
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if f(strings.Split(line, ":")) {
			return nil
		}
	}
	return sc.Err()
}

// openInLayers opens a file as the overlay of the layers would show it. Links are followed within a layer and
// never out of it: an image must not be able to name files of the host.
func openInLayers(layers []string, path string) (*os.File, error) {
	for i := len(layers) - 1; i >= 0; i-- {
		root, err := unix.Open(layers[i], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", layers[i], err)
		}
		fd, err := unix.Openat2(root, strings.TrimPrefix(path, "/"), &unix.OpenHow{
			Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
		unix.Close(root)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue
		}
		if errors.Is(err, unix.ENXIO) {
			return nil, fs.ErrNotExist // a whiteout, which is a device: removed by this layer
		}
		if err != nil {
			return nil, fmt.Errorf("%s in layer %s: %w", path, layers[i], err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			unix.Close(fd)
			return nil, fs.ErrNotExist
		}
		return os.NewFile(uintptr(fd), path), nil
	}
	return nil, fs.ErrNotExist
}
