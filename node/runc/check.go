package runc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// The oldest runc that has what the shim needs: --pidfd-socket, and sealing of its own binary without a copy.
const (
	minMajor = 1
	minMinor = 2
)

// CheckRuntime makes sure that the binary at path is a runc new enough and built with seccomp. It starts it twice,
// about 20 ms: for the agent's start, not for its daily work.
func CheckRuntime(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := output(ctx, path, "--version")
	if err != nil {
		return fmt.Errorf("runc %s: %w: give the path of a runc binary", path, err)
	}
	version, ok := strings.CutPrefix(firstLine(out), "runc version ")
	if !ok {
		return fmt.Errorf("runc %s: %q is not runc's version line", path, firstLine(out))
	}
	major, minor, err := parseVersion(version)
	if err != nil {
		return fmt.Errorf("runc %s: %w", path, err)
	}
	if major < minMajor || major == minMajor && minor < minMinor {
		return fmt.Errorf("runc %s: version %s is too old: %d.%d or newer is needed", path, version, minMajor, minMinor)
	}
	out, err = output(ctx, path, "features")
	if err != nil {
		return fmt.Errorf("runc %s: features: %w", path, err)
	}
	var features struct {
		Linux struct {
			Seccomp struct{ Enabled bool }
		}
	}
	if err := json.Unmarshal(out, &features); err != nil {
		return fmt.Errorf("runc %s: features: %w", path, err)
	}
	if !features.Linux.Seccomp.Enabled {
		return fmt.Errorf("runc %s: built without seccomp: build it with `go build -tags seccomp github.com/opencontainers/runc` and libseccomp", path)
	}
	return nil
}

func output(ctx context.Context, path string, args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && stderr.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return out, err
}

func firstLine(out []byte) string {
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

func parseVersion(v string) (major, minor int, err error) {
	parts := strings.SplitN(v, ".", 3)
	if len(parts) < 2 {
		return 0, 0, fmt.Errorf("version %q: want major.minor", v)
	}
	if major, err = strconv.Atoi(parts[0]); err == nil {
		minor, err = strconv.Atoi(parts[1])
	}
	if err != nil {
		return 0, 0, fmt.Errorf("version %q: %w", v, err)
	}
	return major, minor, nil
}
