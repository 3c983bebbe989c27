package spec

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// User is who a container's process runs as.
type User struct {
	UID, GID uint32
	Groups   []uint32
	Home     string
}

// ResolveUser decides the user of a container from the security contexts, the image's user ("name", "1000",
// "name:group", ...) and the image's /etc/passwd and /etc/group, found in layers (lowest first). Errors are
// *ConfigError.
func ResolveUser(pod *v1.Pod, c *v1.Container, imageUser string, layers []string) (User, error) {
	uid, gid, nonRoot := wanted(pod, c)
	name, group, _ := strings.Cut(imageUser, ":")
	users, groups := accounts(layers)
	var u User
	switch {
	case uid != nil:
		u.UID = uint32(*uid)
	case name != "":
		n, err := strconv.ParseUint(name, 10, 32)
		if err == nil {
			u.UID = uint32(n)
			break
		}
		if nonRoot {
			return u, configErrorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root (pod: %q, container: %s)", name, podRef(pod), c.Name)
		}
		i := slices.IndexFunc(users, func(a account) bool { return a.name == name })
		if i < 0 {
			return u, configErrorf("image user %q is not in the image's /etc/passwd: set securityContext.runAsUser", name)
		}
		u.UID = users[i].id
	}
	if nonRoot && u.UID == 0 {
		if uid != nil {
			return u, configErrorf("container's runAsUser breaks non-root policy (pod: %q, container: %s)", podRef(pod), c.Name)
		}
		return u, configErrorf("container has runAsNonRoot and image will run as root (pod: %q, container: %s)", podRef(pod), c.Name)
	}
	known := slices.IndexFunc(users, func(a account) bool { return a.id == u.UID })
	if known >= 0 {
		u.GID, u.Home, name = users[known].gid, users[known].home, users[known].name
	}
	switch {
	case gid != nil:
		u.GID = uint32(*gid)
	case group != "" && uid == nil:
		if n, err := strconv.ParseUint(group, 10, 32); err == nil {
			u.GID = uint32(n)
		} else if i := slices.IndexFunc(groups, func(a account) bool { return a.name == group }); i >= 0 {
			u.GID = groups[i].id
		} else {
			return u, configErrorf("image group %q is not in the image's /etc/group: set securityContext.runAsGroup", group)
		}
	}
	u.Groups = supplementary(pod, u, groups, name, known >= 0)
	return u, nil
}

func podRef(pod *v1.Pod) string { return pod.Name + "_" + pod.Namespace + "(" + string(pod.UID) + ")" }

// wanted is what the container's security context, or else the pod's, asks for.
func wanted(pod *v1.Pod, c *v1.Container) (uid, gid *int64, nonRoot bool) {
	if sc := pod.Spec.SecurityContext; sc != nil {
		uid, gid, nonRoot = sc.RunAsUser, sc.RunAsGroup, sc.RunAsNonRoot != nil && *sc.RunAsNonRoot
	}
	if sc := c.SecurityContext; sc != nil {
		if sc.RunAsUser != nil {
			uid = sc.RunAsUser
		}
		if sc.RunAsGroup != nil {
			gid = sc.RunAsGroup
		}
		if sc.RunAsNonRoot != nil {
			nonRoot = *sc.RunAsNonRoot
		}
	}
	return uid, gid, nonRoot
}

// supplementary are the additional groups: the pod's, and unless its policy is Strict the image's own.
func supplementary(pod *v1.Pod, u User, groups []account, name string, known bool) []uint32 {
	out := []uint32{u.GID}
	add := func(g uint32) {
		if !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	sc := pod.Spec.SecurityContext
	strict := sc != nil && sc.SupplementalGroupsPolicy != nil && *sc.SupplementalGroupsPolicy == v1.SupplementalGroupsPolicyStrict
	if known && !strict {
		for _, g := range groups {
			if slices.Contains(g.members, name) {
				add(g.id)
			}
		}
	}
	if sc != nil {
		if sc.FSGroup != nil {
			add(uint32(*sc.FSGroup))
		}
		for _, g := range sc.SupplementalGroups {
			add(uint32(g))
		}
	}
	return out
}

// account is a line of /etc/passwd or /etc/group.
type account struct {
	name    string
	id, gid uint32
	home    string
	members []string
}

// accounts reads both files from the highest layer that has them.
func accounts(layers []string) (users, groups []account) {
	for _, f := range lines(layers, "etc/passwd") {
		if len(f) >= 6 {
			users = append(users, account{name: f[0], id: number(f[2]), gid: number(f[3]), home: f[5]})
		}
	}
	for _, f := range lines(layers, "etc/group") {
		if len(f) >= 4 {
			groups = append(groups, account{name: f[0], id: number(f[2]), members: strings.Split(f[3], ",")})
		}
	}
	return users, groups
}

func number(s string) uint32 {
	n, _ := strconv.ParseUint(s, 10, 32)
	return uint32(n)
}

// lines splits a file of colon-separated fields. The file is opened inside its layer: a symbolic link cannot lead
// to the node's own.
func lines(layers []string, path string) (out [][]string) {
	for _, layer := range slices.Backward(layers) {
		root, err := os.OpenRoot(layer)
		if err != nil {
			continue
		}
		f, err := root.Open(filepath.FromSlash(path))
		root.Close()
		if errors.Is(err, fs.ErrNotExist) || err != nil {
			continue
		}
		scan := bufio.NewScanner(f)
		for scan.Scan() {
			out = append(out, strings.Split(scan.Text(), ":"))
		}
		f.Close()
		return out
	}
	return nil
}
