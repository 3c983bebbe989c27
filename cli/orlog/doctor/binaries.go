package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func (m *machine) runc(ctx context.Context) Finding {
	path := filepath.Join(m.BinDir, "runc")
	if err := m.try.Runc(path); err != nil {
		return problem(err.Error(), "build Orlog's binaries (task build), or name their folder with --bin-dir")
	}
	version, err := m.try.Output(ctx, nil, "", path, "--version")
	if err != nil {
		return problem(err.Error(), "build Orlog's binaries (task build)")
	}
	first, _, _ := strings.Cut(version, "\n")
	return ok(strings.TrimPrefix(first, "runc version ") + ", with seccomp")
}

func (m *machine) shim(context.Context) Finding {
	path := filepath.Join(m.BinDir, "orlog-shim")
	info, err := os.Stat(m.file(path))
	if err != nil {
		return problem(err.Error(), "build Orlog's binaries (task build), or name their folder with --bin-dir")
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return problem(path+" is no program", "chmod +x "+path)
	}
	return ok(path)
}

// cniPlugins are what the agent calls.
var cniPlugins = []string{"bridge", "host-local"}

func (m *machine) plugins(ctx context.Context) Finding {
	for _, name := range cniPlugins {
		path := filepath.Join(m.BinDir, "cni", name)
		out, err := m.try.Output(ctx, []string{"CNI_COMMAND=VERSION"}, `{"cniVersion":"1.0.0"}`, path)
		var answer struct {
			SupportedVersions []string `json:"supportedVersions"`
		}
		if err == nil {
			err = json.Unmarshal([]byte(out), &answer)
		}
		if err == nil && len(answer.SupportedVersions) == 0 {
			err = fmt.Errorf("%s names no version of CNI", path)
		}
		if err != nil {
			return problem(err.Error(), "build Orlog's binaries (task build), or name their folder with --bin-dir")
		}
	}
	return ok(strings.Join(cniPlugins, ", "))
}
